"""Stages of `gpu.py`: checks, measurements and training on a machine with a GPU."""

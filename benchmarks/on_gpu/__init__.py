"""The stages of `gpu.py`: what one call on a machine with a GPU checks, measures and trains."""

"""The network and its cost."""

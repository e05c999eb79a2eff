"""The network and what it costs."""

"""Contenders in separate processes, measured in turns, and the page of results."""

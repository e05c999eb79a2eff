"""Sections of the page, in order: each a function from arguments to results."""

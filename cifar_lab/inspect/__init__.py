"""Inspection and maintenance of a runs folder: status, failures, differences of two cells, checks, cleanup."""

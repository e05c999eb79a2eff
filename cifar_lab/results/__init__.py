"""Evaluation of stored cells: comparisons, contrasts, claims and statistics."""

"""How fast a training got there, and whether it had arrived: epochs to a threshold, the rise at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WORTH_SAYING = 0.001
"""The rise in the last tenth, as a fraction of accuracy, below which a curve counts as flat: 0.1 points."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Epochs to a threshold over some cells: the mean of those that reached it, and how many did."""

    mean: float | None
    reached: int
    of: int


def epochs_to(epochs: Iterable[float | None]) -> Reached:
    """Summary of the first epoch at or over a threshold, None for a cell that never was."""
    every = list(epochs)
    there = [epoch for epoch in every if epoch is not None]
    return Reached(mean=sum(there) / len(there) if there else None, reached=len(there), of=len(every))


def rise(accuracies: Sequence[float]) -> float | None:
    """Mean accuracy over the last tenth of the epochs less that over as many before; None of less than two epochs.

    The last tenth is one epoch at least. A schedule that ends low makes it rise whatever the length of the training.
    """
    window = max(1, math.floor(len(accuracies) / 10 + 0.5))
    if len(accuracies) < 2 * window:
        return None
    last, before = accuracies[-window:], accuracies[-2 * window : -window]
    return (sum(last) - sum(before)) / window


def still_rises(rises: Sequence[float]) -> bool:
    """Whether the mean over seeds is worth saying: over 0.1 points and, from three on, twice its standard error."""
    if not rises:
        return False
    n, mean = len(rises), sum(rises) / len(rises)
    error = math.sqrt(sum((value - mean) ** 2 for value in rises) / (n - 1) / n) if n >= 3 else 0.0
    return mean > max(WORTH_SAYING, 2 * error)

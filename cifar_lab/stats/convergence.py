"""How fast a training got there, and whether it had arrived: epochs to a threshold, the rise at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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


def epochs_to_difference(epochs: Mapping[int, float | None], control: Mapping[int, float | None]) -> Reached:
    """Summary of `epochs - control` over the seeds that both have; below zero is faster.

    A seed has a difference where both reached the threshold, and is counted in `of` where they did not: that one of
    them never did says which was faster, and not by how much.
    """
    pairs = [(epochs[seed], control[seed]) for seed in sorted(epochs.keys() & control.keys())]
    return epochs_to(None if one is None or other is None else one - other for one, other in pairs)


def last_tenth(epochs: int) -> int:
    """How many epochs the last tenth of a training is: one at least, a half rounded up."""
    return max(1, math.floor(epochs / 10 + 0.5))


def rise(accuracies: Sequence[float]) -> float | None:
    """Mean accuracy over the last tenth of the epochs less that over as many before; None of less than two epochs.

    A schedule that ends low makes the last tenth rise whatever the length of the training: a rise says that the curve
    had not come to rest, and not that more epochs would have brought as much again.
    """
    window = last_tenth(len(accuracies))
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

"""Measures of a curve of accuracies: epochs to a threshold, the early mean, the rise at the end, and oscillation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WORTH_SAYING = 0.001
"""The rise in the last tenth, as a fraction of accuracy, below which a curve counts as flat: 0.1 points."""
SHORTEST_THIRD = 3
"""Fewest epochs of a last third: a line through two leaves nothing that could oscillate."""


@dataclass(frozen=True, kw_only=True)
class EpochsToThreshold:
    """Epochs to a threshold over several cells: the mean of those that reached it, and their number."""

    mean: float | None
    reached: int
    of: int


def epochs_to(epochs: Iterable[float | None]) -> EpochsToThreshold:
    """Summarize the first epochs at or above a threshold; None marks a cell that never reached it."""
    every = list(epochs)
    there = [epoch for epoch in every if epoch is not None]
    return EpochsToThreshold(mean=sum(there) / len(there) if there else None, reached=len(there), of=len(every))


def epochs_to_difference(epochs: Mapping[int, float | None], control: Mapping[int, float | None]) -> EpochsToThreshold:
    """Summarize `epochs - control` over the seeds that both have; a negative value is faster.

    A seed has a difference if both cells reached the threshold. Otherwise the seed is only counted in `of`: the order
    of the two is known, but not the size of the difference.
    """
    pairs = [(epochs[seed], control[seed]) for seed in sorted(epochs.keys() & control.keys())]
    return epochs_to(None if one is None or other is None else one - other for one, other in pairs)


def one_tenth(epochs: int) -> int:
    """Return the number of epochs in a tenth of a training: at least one, halves rounded up."""
    return max(1, math.floor(epochs / 10 + 0.5))


def early_mean(accuracies: Sequence[float]) -> float | None:
    """Return the mean accuracy over the first tenth of the epochs; None for an empty curve.

    The tenth has at least one epoch: for up to 14 epochs it is the accuracy after the first one.
    """
    window = one_tenth(len(accuracies))
    return sum(accuracies[:window]) / window if accuracies else None


def oscillation(accuracies: Sequence[float]) -> float | None:
    """Return the standard deviation of the accuracy over the last third of the epochs, about its straight trend.

    With m epochs in the last third (a third of all, halves rounded up) and residuals r from the least-squares line
    through them, it is √(Σ r² / (m - 2)), in the unit of `accuracies`. Without the line it would measure how far the
    accuracy still rises: a schedule that ends at a low rate gains in its last third, and does not oscillate.

    None if the last third has fewer than three epochs, which is so below eight epochs.
    """
    count = math.floor(len(accuracies) / 3 + 0.5)
    if count < SHORTEST_THIRD:
        return None
    last, middle = accuracies[-count:], (count - 1) / 2
    mean = sum(last) / count
    spread = sum((i - middle) ** 2 for i in range(count))
    slope = sum((i - middle) * (value - mean) for i, value in enumerate(last)) / spread
    squares = sum((value - mean - slope * (i - middle)) ** 2 for i, value in enumerate(last))
    return math.sqrt(squares / (count - 2))


def rise(accuracies: Sequence[float]) -> float | None:
    """Return the mean accuracy over the last tenth of the epochs minus that over as many epochs before.

    None for fewer than two epochs. A schedule that ends at a low learning rate makes the last tenth rise at any length
    of training: a rise shows that the curve had not settled, not that more epochs would gain as much again.
    """
    window = one_tenth(len(accuracies))
    if len(accuracies) < 2 * window:
        return None
    last, before = accuracies[-window:], accuracies[-2 * window : -window]
    return (sum(last) - sum(before)) / window


def still_rises(rises: Sequence[float]) -> bool:
    """Tell whether the mean rise over seeds exceeds 0.1 points and, from three seeds on, twice its standard error."""
    if not rises:
        return False
    n, mean = len(rises), sum(rises) / len(rises)
    error = math.sqrt(sum((value - mean) ** 2 for value in rises) / (n - 1) / n) if n >= 3 else 0.0
    return mean > max(WORTH_SAYING, 2 * error)

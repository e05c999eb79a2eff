"""Choice of the best of several finished cells by val, wherever one is to be used, logged or registered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

VAL, TEST = "val/acc", "test/acc"

T = TypeVar("T")
Metrics = Callable[[T], Mapping[str, float]]
"""Function that returns the final metrics of a candidate."""


def selection_metric(candidates: Iterable[T], metrics: Metrics[T]) -> str:
    """Return the metric that the best is selected by: `val/acc`, or `test/acc` where one has held no images out."""
    return VAL if all(VAL in metrics(each) for each in candidates) else TEST


def best_cell(candidates: Sequence[T], metrics: Metrics[T], metric: str) -> T:
    """Return the candidate with the highest `metric`, the first of equal ones; missing and NaN are the lowest.

    The metric is the one of all cells that are chosen from (`selection_metric`), also where the best of some is wanted.
    """

    def value(candidate: T) -> float:
        found = metrics(candidate).get(metric, -math.inf)
        return -math.inf if math.isnan(found) else found

    return max(candidates, key=value)

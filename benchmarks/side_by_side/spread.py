"""Measurements of one quantity over rounds: median, minimum and maximum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """Measurements of at least one round, in order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def lowest(self) -> float:
        return min(self.values)

    @property
    def highest(self) -> float:
        return max(self.values)

    def __str__(self) -> str:
        """Return `3.61 (3.42 to 3.70)`; for one value, only that."""
        if len(self.values) == 1:
            return shown(self.median)
        return f"{shown(self.median)} ({shown(self.lowest)} to {shown(self.highest)})"


@dataclass(frozen=True)
class Absent:
    """Marks a missing measurement."""

    reason: str

    def __str__(self) -> str:
        return f"not measured: {self.reason}"


Found = Spread | Absent


def by_round(operation: Callable[..., float], *found: Found) -> Found:
    """Apply `operation` to the results of several quantities in the same round, round by round.

    So a slow phase of the whole machine does not affect a ratio. Absent if one of the quantities is.
    """
    for one in found:
        if isinstance(one, Absent):
            return one
    columns = [one.values for one in found if isinstance(one, Spread)]
    try:
        return Spread(tuple(operation(*row) for row in zip(*columns, strict=True)))
    except ZeroDivisionError:
        return Absent("nothing to divide by")


def ratio(one: Found, other: Found) -> Found:
    """Return `one` divided by `other`, round by round."""
    return by_round(lambda a, b: a / b, one, other)


def shown(value: float) -> str:
    """Format three significant digits: `1,234`, `12.3`, `0.0123`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"

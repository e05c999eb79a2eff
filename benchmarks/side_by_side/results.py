"""Measurements over rounds, the goals that they are compared with, and sections of a page that hold both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Spread:
    """Measurements of one quantity in at least one round, in order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def extremes(self) -> tuple[float, float]:
        return min(self.values), max(self.values)

    def __str__(self) -> str:
        """Return `3.61 (3.42 to 3.70)`; for one value, only that."""
        extremes = " ({} to {})".format(*map(shown, self.extremes)) if len(self.values) > 1 else ""
        return shown(self.median) + extremes


@dataclass(frozen=True)
class Absent:
    """Missing measurement."""

    reason: str

    def __str__(self) -> str:
        return f"not measured: {self.reason}"


Found = Spread | Absent


def by_round(operation: Callable[..., float], *found: Found) -> Found:
    """Apply `operation` round by round, so that a slow phase of the whole machine does not affect a ratio.

    Absent if one of the quantities is.
    """
    absent = next((one for one in found if isinstance(one, Absent)), None)
    try:
        return absent or Spread(tuple(operation(*row) for row in zip(*(one.values for one in found), strict=True)))
    except ZeroDivisionError:
        return Absent("nothing to divide by")


def ratio(one: Found, other: Found) -> Found:
    return by_round(lambda a, b: a / b, one, other)


def shown(value: float) -> str:
    """Format three significant digits: `1,234`, `12.3`, `0.0123`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A limit on the median of `measured`; both are in `unit`. `why` explains a miss, from other measurements."""

    what: str
    at: Literal["least", "most"]
    limit: float
    unit: str
    measured: Found
    why: str = ""

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.at == 'least' else '≤'} {shown(self.limit)} {self.unit}"

    @property
    def is_reached(self) -> bool | None:
        """Tell whether the median is within the limit; None without a measurement."""
        return None if isinstance(self.measured, Absent) else self._keeps(self.measured.median)

    @property
    def verdict(self) -> str:
        """Return `reached`, with a note on rounds that missed; `missed by 0.5 × (14 %)`; or why there is no verdict."""
        if isinstance(self.measured, Absent):
            return str(self.measured)
        values, off = self.measured.values, abs(self.measured.median - self.limit)
        if not self.is_reached:
            share = f" ({shown(100 * off / abs(self.limit))} %)" if self.limit else ""
            return f"missed by {shown(off)} {self.unit}{share}"
        failing = sum(not self._keeps(value) for value in values)
        return f"reached, though not in {failing} of {len(values)} rounds" if failing else "reached"

    def _keeps(self, value: float) -> bool:
        return value >= self.limit if self.at == "least" else value <= self.limit


@dataclass(frozen=True)
class Table:
    """Rows of one unit. `against` names the row that the others are compared with; empty for no comparison."""

    title: str
    unit: str
    rows: dict[str, Found]
    against: str = ""

    def ratios(self) -> list[Found]:
        """Return the ratio of each row to that named by `against`, round by round; empty if none is named."""
        return [ratio(found, self.rows[self.against]) for found in self.rows.values()] if self.against else []


@dataclass(frozen=True, kw_only=True)
class Section:
    """Results for one question: `told` is a short description of what is compared, and how."""

    name: str
    title: str
    told: str
    tables: tuple[Table, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()
    is_timed: bool = True
    """True if other load on the machine affects its numbers."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Section with the provenance of its numbers: `side_by_side.machine.made`."""

    made: dict[str, Any]
    section: Section

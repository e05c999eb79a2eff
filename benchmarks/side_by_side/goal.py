"""Goals, compared with measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from side_by_side.spread import Absent, Found, shown


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A limit on the median of `measured`; both are in `unit`."""

    what: str
    at: Literal["least", "most"]
    limit: float
    unit: str
    measured: Found
    why: str = ""
    """Explanation of a miss, from other measurements; shown only then."""

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
        values, median = self.measured.values, self.measured.median
        if not self._keeps(median):
            off = abs(median - self.limit)
            share = f" ({shown(100 * off / abs(self.limit))} %)" if self.limit else ""
            return f"missed by {shown(off)} {self.unit}{share}"
        failing = sum(not self._keeps(value) for value in values)
        return f"reached, though not in {failing} of {len(values)} rounds" if failing else "reached"

    def _keeps(self, value: float) -> bool:
        return value >= self.limit if self.at == "least" else value <= self.limit

"""Section of the page: tables of measurements, goals, and provenance."""

from __future__ import annotations

from dataclasses import dataclass

from side_by_side.goal import Goal
from side_by_side.spread import Found, ratio


@dataclass(frozen=True, kw_only=True)
class Row:
    """Contender or other quantity with its measurements."""

    name: str
    measured: Found


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one unit. `against` names the row that the others are compared with; empty for no comparison."""

    title: str
    unit: str
    rows: tuple[Row, ...]
    against: str = ""

    def ratios(self) -> tuple[Found, ...]:
        """Return the ratio of each row to that named by `against`, round by round; empty if none is named."""
        base = next((row.measured for row in self.rows if row.name == self.against), None)
        return () if base is None else tuple(ratio(row.measured, base) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Section:
    """Results for one question."""

    name: str
    """Name for `--only`."""
    title: str
    told: str
    """Short description of what is compared, and how."""
    tables: tuple[Table, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()
    is_timed: bool = True
    """True if other load on the machine affects its numbers."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """Provenance of a section's numbers."""

    command: str
    date: str
    rounds: int
    is_quick: bool
    data: str
    hardware: str
    versions: str
    commit: str
    busy: float
    """Number of cores busy with other work just before the section began."""
    cores: int
    has_bf16: bool
    """True if the processor multiplies bf16 matrices in hardware."""
    minutes: float
    """Duration of the section in minutes."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Section with its provenance."""

    made: Made
    section: Section

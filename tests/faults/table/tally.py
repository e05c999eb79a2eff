"""Count what was tried and what was lost in one row of the fault table."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from faults.record import count, form, record
from faults.table.rows import Row

SEED = 20261127
"""Seed of the random moments, places and sizes; a row's own stream also depends on its name."""


@dataclass
class Tally:
    """The tries of one row. A try is lost if at least one thing that must hold did not."""

    row: Row
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    is_settled: bool = False
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{SEED} {self.row.name}")

    @property
    def tries(self) -> int:
        """Number of tries that are asked for."""
        return count(self.row.name, quick=self.row.quick, full=self.row.full)

    @property
    def is_full(self) -> bool:
        """Tell whether the long form is requested, in which outages last as long as the row says."""
        return "full" in form().split(",")

    def add(self, problems: list[str], what: str = "") -> None:
        """Count one try; `problems`: what did not hold, `what`: the moment or place of the fault."""
        self.tried += 1
        if problems:
            self.lost.append(f"{what}: {'; '.join(problems)}" if what else "; ".join(problems))

    def skip(self, reason: str) -> None:
        """Skip the row, with a reason that the table shows."""
        self.skipped = reason
        pytest.skip(reason)

    def settle(self) -> None:
        """Fail the test where something was lost, or nothing was tried."""
        self.is_settled = True
        assert self.tried, "nothing was tried"
        assert not self.lost, f"{len(self.lost)} of {self.tried} lost:\n" + "\n".join(self.lost[:20])


@contextmanager
def counting(row: Row) -> Iterator[Tally]:
    """Yield the tally of `row`, and record it whichever way the test ends."""
    tally, began = Tally(row), time.monotonic()
    try:
        yield tally
    finally:
        record(
            row.name, tried=tally.tried, lost=tally.lost, seconds=time.monotonic() - began, notes=tally.notes,
            broke_off=not tally.is_settled and not tally.skipped, skipped=tally.skipped,
        )  # fmt: skip

"""A goal says whether it is reached, and by how much it is not."""

from __future__ import annotations

import pytest
from made.benchmarks import goal
from side_by_side.spread import Absent, Spread


def test_a_goal_that_is_missed_says_by_how_much() -> None:
    missed = goal(limit=2.0, measured=Spread((1.5,)))
    assert missed.is_reached is False
    assert missed.verdict == "missed by 0.500 × (25.0 %)"
    assert missed.wanted == "≥ 2.00 ×"


def test_a_limit_from_above_is_missed_above_it() -> None:
    missed = goal(at="most", limit=1.0, unit="s", measured=Spread((4.0, 5.0, 6.0)))
    assert (missed.wanted, missed.verdict) == ("≤ 1.00 s", "missed by 4.00 s (400 %)")
    assert goal(at="most", limit=1.0, unit="s", measured=Spread((1.0,))).is_reached is True


def test_the_median_decides_and_rounds_that_did_not_reach_it_are_counted() -> None:
    found = goal(limit=2.0, measured=Spread((1.9, 2.1, 2.2)))
    assert found.is_reached is True
    assert found.verdict == "reached, though not in 1 of 3 rounds"
    assert goal(limit=2.0, measured=Spread((2.0, 2.1))).verdict == "reached"


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    unknown = goal(measured=Absent("not installed"))
    assert unknown.is_reached is None
    assert unknown.verdict == "not measured: not installed"


@pytest.mark.parametrize("measured", [0.1, 0.0])
def test_a_limit_of_zero_has_no_percentage(measured: float) -> None:
    found = goal(at="most", limit=0.0, unit="points", measured=Spread((measured,)))
    assert found.verdict == ("missed by 0.100 points" if measured else "reached")

"""Summaries of several rounds, and goals that say whether they are reached, and by how much they are not."""

from __future__ import annotations

import pytest
from made.benchmarks import goal
from side_by_side.results import Absent, Spread, by_round, ratio, shown

GONE = Absent("not installed")


def test_the_median_stands_with_the_lowest_and_the_highest() -> None:
    found = Spread((3.0, 1.0, 2.5, 9.0, 2.0))
    assert (found.median, found.extremes) == (2.5, (1.0, 9.0))
    assert str(found) == "2.50 (1.00 to 9.00)"
    assert str(Spread((0.7,))) == "0.700"


def test_a_ratio_is_taken_in_each_round_so_that_a_slow_minute_cancels_out() -> None:
    theirs, ours = Spread((100.0, 25.0, 100.0)), Spread((300.0, 75.0, 310.0))
    found = ratio(ours, theirs)
    assert isinstance(found, Spread)
    assert found.values == (3.0, 3.0, 3.1)
    assert found.median == 3.0


@pytest.mark.parametrize("sides", [(GONE, Spread((1.0,))), (Spread((1.0,)), GONE)])
def test_what_is_absent_makes_all_that_follows_from_it_absent_for_the_same_reason(sides: tuple[Absent, Spread]) -> None:
    assert ratio(*sides) == GONE


def test_a_ratio_to_nothing_is_absent() -> None:
    assert isinstance(ratio(Spread((1.0,)), Spread((0.0,))), Absent)


def test_different_numbers_of_rounds_are_never_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        by_round(lambda a, b: a + b, Spread((1.0,)), Spread((1.0, 2.0)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.4, "1,234"),
        (999.6, "1,000"),
        (12.34, "12.3"),
        (1.0, "1.00"),
        (0.01234, "0.0123"),
        (0, "0"),
        (-2.5, "-2.50"),
    ],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert shown(value) == text


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

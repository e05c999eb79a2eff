"""Šidák's levels and Holm's p-values, against their definitions and a worked example."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_lab.results.stats.multiple_comparisons import holm, per_comparison

P_VALUES = st.dictionaries(st.text("abcdefg", min_size=1, max_size=3), st.floats(0, 1), max_size=6)


@pytest.mark.parametrize("comparisons", [0, 1])
def test_one_comparison_has_the_confidence_to_itself(comparisons: int) -> None:
    assert per_comparison(0.95, comparisons) == 0.95


@pytest.mark.parametrize("comparisons", range(1, 30))
def test_independent_intervals_hold_together_with_just_the_confidence_asked_for(comparisons: int) -> None:
    assert per_comparison(0.95, comparisons) ** comparisons == pytest.approx(0.95, abs=1e-12)


def test_sidaks_level_lies_between_none_and_bonferronis() -> None:
    assert per_comparison(0.95, 4) == pytest.approx(0.987259, abs=1e-6)
    assert 0.95 < per_comparison(0.95, 4) < 1 - 0.05 / 4


def test_holm_of_a_worked_example() -> None:
    # By hand: 0.005 × 4; 0.01 × 3; 0.03 × 2; 0.04 × 1, which may not fall below the one before.
    p = {"c": 0.03, "a": 0.01, "d": 0.04, "b": 0.005}
    assert holm(p) == pytest.approx({"c": 0.06, "a": 0.03, "d": 0.06, "b": 0.02})
    assert list(holm(p)) == ["c", "a", "d", "b"]


def test_holm_of_nothing_and_of_one() -> None:
    assert holm({}) == {}
    assert holm({"a": 0.2}) == {"a": 0.2}


@given(P_VALUES)
def test_holm_is_the_closed_test_by_bonferroni(p: dict[str, float]) -> None:
    """Compare with the definition: reject if every intersection containing it is rejected (Marcus et al. 1976)."""
    groups = [group for size in range(1, len(p) + 1) for group in itertools.combinations(p, size)]
    local = {group: min(1.0, len(group) * min(p[name] for name in group)) for group in groups}
    closed = {name: max(value for group, value in local.items() if name in group) for name in p}
    assert holm(p) == pytest.approx(closed, abs=1e-10)


@given(P_VALUES.filter(lambda p: len(p) > 0))
def test_holm_lies_between_the_p_value_and_benjamini_and_bonferroni(p: dict[str, float]) -> None:
    names = list(p)
    hochberg = stats.false_discovery_control([p[name] for name in names])
    for name, rate in zip(names, hochberg, strict=True):
        assert max(p[name], rate) - 1e-12 <= holm(p)[name] <= min(1.0, len(p) * p[name]) + 1e-12

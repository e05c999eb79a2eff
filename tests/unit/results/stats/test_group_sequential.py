"""Sequential looks: spent error, compared with simulated studies and with boundaries computed otherwise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.group_sequential import (
    FEWEST,
    FIRST,
    levels,
    looks,
    moderated_at_looks,
    moderated_boundaries,
    other_critical,
    spent,
)
from cifar_lab.results.stats.moderated import Family, critical_value, moderated_intervals
from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.stats.paired import student

ERROR = 0.05
STUDIES = 200_000


@given(st.integers(FEWEST, 2000))
def test_looks_begin_with_five_seeds_rise_and_end_with_the_most(most: int) -> None:
    plan = looks(most)
    assert FIRST == plan[0] == 5
    assert plan[-1] == most
    assert all(after > before for before, after in itertools.pairwise(plan))
    assert len(plan) >= 3


def test_looks_come_at_half_as_many_again() -> None:
    assert FEWEST == 12
    assert looks(12) == (5, 8, 12)
    assert looks(13) == (5, 8, 12, 13)
    assert looks(100) == (5, 8, 12, 18, 27, 40, 60, 90, 100)


def test_fewer_seeds_than_the_first_look_are_one_look() -> None:
    assert [looks(most) for most in (2, 5, 6, 8)] == [(2,), (5,), (5, 6), (5, 8)]


def test_spending_begins_with_nothing_never_falls_and_ends_with_all() -> None:
    shares = np.linspace(0, 1, 50)
    found = [spent(share, ERROR) for share in shares]
    assert found[0] == 0
    assert found[-1] == pytest.approx(ERROR)
    assert all(after > before for before, after in itertools.pairwise(found))
    assert spent(1.5, ERROR) == pytest.approx(ERROR)
    assert spent(0.5, ERROR) == pytest.approx(0.0310, abs=1e-4)  # 0.05 × ln(1 + (e - 1) / 2)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_one_look_spends_all_on_students_interval(n: int) -> None:
    assert levels((n,), ERROR) == pytest.approx((1 - ERROR,), abs=0.0008)


def test_spending_all_at_the_last_look_leaves_the_others_empty_handed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_sequential, "spent", lambda share, error: error if share == 1 else 0.0)
    found = levels.__wrapped__((5, 8, 12), ERROR)
    assert found[:2] == (1.0, 1.0)
    assert found[2] == pytest.approx(1 - ERROR, abs=0.0008)


def test_with_many_seeds_the_boundaries_are_the_published_gaussian_ones() -> None:
    """Five looks, evenly spaced, as Lan and DeMets' program prints them."""
    found = [stats.norm.isf((1 - level) / 2) for level in levels((2000, 4000, 6000, 8000, 10_000), ERROR)]
    assert found == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.01)


def test_they_are_those_of_recursive_integration() -> None:
    plan = (1000, 1600, 2400, 3600, 4000)
    found = [stats.norm.isf((1 - level) / 2) for level in levels(plan, 0.0127)]
    assert found == pytest.approx(_gaussian_boundaries([n / plan[-1] for n in plan], 0.0127), abs=0.02)


@pytest.mark.parametrize("most", [12, 20])
@pytest.mark.parametrize("comparisons", [1, 4])
def test_each_look_errs_as_often_as_it_may(most: int, comparisons: int) -> None:
    plan, error = looks(most), 1 - per_comparison(1 - ERROR, comparisons)
    draws = np.random.default_rng(11).standard_normal((STUDIES, most))
    fooled = np.zeros(STUDIES, dtype=bool)
    for n, level in zip(plan, levels(plan, error), strict=True):
        seen = draws[:, :n]
        fooled |= np.abs(seen.mean(axis=1)) > student(0.0, 1.0, n, level)[1] * seen.std(axis=1, ddof=1)
        allowed = spent(n / most, error)
        # The levels were simulated too: their own error adds a tenth to that of these studies.
        assert abs(fooled.mean() - allowed) < 1.1 * 3.5 * math.sqrt(allowed * (1 - allowed) / STUDIES)


def test_no_look_is_as_generous_as_the_only_one_would_be() -> None:
    assert all(1 - ERROR < level < 1 for level in levels(looks(20), ERROR))


def test_the_same_plan_has_the_same_levels_again() -> None:
    assert levels.__wrapped__((5, 8, 12), ERROR) == levels((5, 8, 12), ERROR)


def test_the_simulated_ts_are_students_at_each_look_and_of_one_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_sequential, "PATHS", STUDIES)
    plan = (2, 3, 12)
    found = group_sequential._null_paths(plan)
    draws = np.random.default_rng(12).standard_normal((STUDIES, 12))
    straight = np.stack(
        [np.abs(draws[:, :n].mean(axis=1)) / draws[:, :n].std(axis=1, ddof=1) * math.sqrt(n) for n in plan]
    )
    assert found.shape == straight.shape
    for n, row in zip(plan, found, strict=True):
        assert stats.kstest(row, lambda t, n=n: 2 * stats.t.cdf(t, n - 1) - 1).pvalue > 0.001
    assert stats.spearmanr(found.T).statistic == pytest.approx(stats.spearmanr(straight.T).statistic, abs=0.01)


def _gaussian_boundaries(times: Sequence[float], error: float) -> list[float]:
    """Return boundaries for means of known variance, by integrating the density of continuing studies at each look.

    Armitage, McPherson and Rowe (1969), "Repeated significance tests on accumulating data".
    """
    grid = np.linspace(-8, 8, 3001)
    step, density, before = grid[1] - grid[0], np.zeros(0), 0.0
    found: list[float] = []
    for t in times:
        if not found:
            density = stats.norm.pdf(grid, scale=math.sqrt(t))
        else:
            density = step * stats.norm.pdf(grid[:, None] - grid, scale=math.sqrt(t - before)) @ density
        leaving = (spent(t, error) - spent(before, error)) / 2
        boundary = float(np.interp(leaving, np.cumsum(density) * step - density * step / 2, grid))
        found.append(-boundary / math.sqrt(t))
        density, before = np.where(np.abs(grid) < -boundary, density, 0.0), t
    return found


# Moderated boundaries of several differences

PLAN = (5, 8, 12)
CRITICAL = {5: 4.0, 8: 3.5, 12: 3.2}
FIRST_ONE = dict(enumerate((0.010, 0.014, 0.006, 0.011, 0.009, 0.012, 0.013, 0.004)))
OTHER = dict(enumerate((0.001, -0.004, 0.003, -0.002, 0.000, 0.005, -0.006, 0.002)))


def first(values: dict[int, float], seeds: int) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if seed < seeds}


@pytest.mark.parametrize(("comparisons", "pairs"), [(2, 5), pytest.param(7, 5, marks=pytest.mark.slow)])
def test_one_look_at_moderated_intervals_has_their_calibrated_value(comparisons: int, pairs: int) -> None:
    (value,) = moderated_boundaries((pairs,), comparisons, "control", ERROR)
    assert value == pytest.approx(critical_value(comparisons, pairs), rel=0.02)


def test_moderated_boundaries_are_narrower_than_students_of_so_many_comparisons() -> None:
    nominal = levels(PLAN, 1 - per_comparison(1 - ERROR, 2))
    students = [float(stats.t.isf((1 - level) / 2, n - 1)) for level, n in zip(nominal, PLAN, strict=True)]
    moderated = moderated_boundaries(PLAN, 2, "control", ERROR)
    assert all(mine < theirs for mine, theirs in zip(moderated, students, strict=True))
    assert moderated[0] < 0.9 * students[0]


@pytest.mark.slow
def test_the_same_rule_has_the_same_boundaries_again() -> None:
    again = moderated_boundaries.__wrapped__((5, 8), 2, "control", ERROR)
    assert again == moderated_boundaries((5, 8), 2, "control", ERROR)


@pytest.mark.slow
def test_boundaries_grow_with_the_number_of_comparisons_and_where_there_is_no_common_control() -> None:
    two, four = (moderated_boundaries(PLAN, k, "control", ERROR) for k in (2, 4))
    chain = moderated_boundaries(PLAN, 4, "any", ERROR)
    assert all(a < b <= c for a, b, c in zip(two, four, chain, strict=True))


def test_at_the_same_look_the_intervals_are_the_moderated_ones_with_the_value_of_the_look() -> None:
    values = {"a": FIRST_ONE, "b": OTHER}
    found = moderated_at_looks(values, {"a": 8, "b": 8}, CRITICAL, "control")
    assert found == moderated_intervals({name: list(each.values()) for name, each in values.items()}, "control", 3.5)


def test_a_difference_that_was_settled_early_keeps_the_interval_of_its_look() -> None:
    early = moderated_at_looks({"a": first(FIRST_ONE, 5), "b": first(OTHER, 5)}, {"a": 5, "b": 5}, CRITICAL, "control")
    later = moderated_at_looks({"a": first(FIRST_ONE, 5), "b": OTHER}, {"a": 5, "b": 8}, CRITICAL, "control")
    assert later["a"] == early["a"]
    assert later["b"] != early["b"]


def test_a_later_look_pools_the_settled_variance_by_its_own_degrees_of_freedom() -> None:
    found = moderated_at_looks({"a": first(FIRST_ONE, 5), "b": OTHER}, {"a": 5, "b": 8}, CRITICAL, "control")["b"]
    settled, own = (np.var(list(each.values()), ddof=1) for each in (first(FIRST_ONE, 5), OTHER))
    mean = (4 * settled + 7 * own) / 11
    deviation = math.sqrt((7 * own + 4 * mean) / 11)
    assert found.deviation == pytest.approx(deviation)
    half = 3.5 * deviation / math.sqrt(8)
    assert found.interval == pytest.approx((np.mean(list(OTHER.values())) - half, np.mean(list(OTHER.values())) + half))


def test_before_its_first_look_a_difference_has_no_interval_and_lends_none_its_variance() -> None:
    values = {"a": FIRST_ONE, "b": OTHER, "c": first(OTHER, 3)}
    found = moderated_at_looks(values, {"a": 8, "b": 8, "c": 0}, CRITICAL, "control")
    assert set(found) == {"a", "b"}
    assert found["a"] == moderated_at_looks({"a": FIRST_ONE, "b": OTHER}, {"a": 8, "b": 8}, CRITICAL, "control")["a"]


def test_a_look_that_lost_seeds_has_wider_intervals_than_its_value_alone_would_give() -> None:
    lost = {seed: value for seed, value in first(OTHER, 5).items() if seed not in (1, 2)}
    found = moderated_at_looks({"a": first(FIRST_ONE, 5), "b": lost}, {"a": 5, "b": 5}, CRITICAL, "control")
    wider = critical_value(2, 3) / critical_value(2, 5)
    assert wider > 1.2
    assert [each.critical for each in found.values()] == pytest.approx([4.0 * wider] * 2)


@pytest.mark.parametrize(
    "other",
    [{}, {0: 0.01}, dict.fromkeys(range(5), 0.01)],
    ids=["every seed diverged", "one seed is left", "the same in every seed"],
)
def test_where_fewer_than_two_differences_vary_nothing_is_moderated(other: dict[int, float]) -> None:
    assert moderated_at_looks({"a": first(FIRST_ONE, 5), "b": other}, {"a": 5, "b": 5}, CRITICAL, "control") == {}


# Claims and effects


@pytest.mark.parametrize(
    ("own", "other", "served"),
    [
        ((4, "control"), (4, "control"), True),
        ((4, "control"), (3, "control"), True),
        ((4, "any"), (4, "control"), True),
        ((4, "control"), (4, "any"), False),
        ((4, "control"), (5, "control"), False),
        ((4, "control"), (1, "control"), False),
    ],
)
def test_the_values_of_a_rule_serve_no_more_differences_that_hang_together_no_worse(
    own: tuple[int, Family], other: tuple[int, Family], served: bool
) -> None:
    rule = ((5, 3.76), (8, 3.5), (12, 3.27))  # four differences to one control
    assert other_critical(rule, own, other, ERROR) == (dict(rule) if served else {})


def test_the_values_of_a_rule_do_not_serve_where_students_are_smaller_at_any_look() -> None:
    rule = ((5, 3.76), (8, 3.5), (12, 3.27))
    nominal = levels((5, 8, 12), 1 - per_comparison(0.95, 2))
    assert student(0.0, 1.0, 12, nominal[-1])[1] * math.sqrt(12) < 3.27
    assert other_critical(rule, (4, "control"), (2, "control"), ERROR) == {}

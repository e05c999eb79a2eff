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
from cifar_lab.results.stats.group_sequential import FEWEST, FIRST, levels, looks, spent
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

"""One comparison with a variance prior from earlier cells: coverage in and outside the class, width, and refusals."""

from __future__ import annotations

import math

import critical_values
import numpy as np
import pytest
import simulated_rules
from scipy import stats

from cifar_lab.results.stats.history_prior import (
    FEWEST_CELLS,
    MOST_CELLS,
    MOST_PAIRS,
    PRIOR,
    history_critical_value,
    history_interval,
)
from cifar_lab.results.stats.worlds import CLASS, NullWorld

WORST = NullWorld(deviations="second × 3", correlation=0.0)


def interval_by_hand(differences: list[float], variance: float, critical: float) -> tuple[float, float]:
    n = len(differences)
    deviation = math.sqrt(((n - 1) * np.var(differences, ddof=1) + PRIOR * 2 * variance) / (n - 1 + PRIOR))
    half = critical * deviation / math.sqrt(n)
    return float(np.mean(differences)) - half, float(np.mean(differences)) + half


@pytest.mark.parametrize("differences", [[0.01, 0.03], [0.01, -0.02, 0.015], [0.01, 0.01]])
def test_the_interval_is_a_mean_and_a_moderated_standard_error_times_the_critical_value(
    differences: list[float],
) -> None:
    found = history_interval(differences, 4e-6, 10)
    assert found is not None
    critical = history_critical_value(len(differences), 10)
    assert found.critical == critical
    assert found.interval == pytest.approx(interval_by_hand(differences, 4e-6, critical))


def coverage(world: NullWorld, pairs: int, cells: int, *, overlap: bool, studies: int = 4000) -> float:
    """Simulate studies of accuracies near 0.9 and judge each by the product's own function."""
    random = np.random.default_rng([1, pairs, cells, overlap])
    values = 0.01 * world.draw(studies, 2, cells + pairs, random).astype(float) + 0.9
    covered = 0
    for control, variant in values:
        compared = slice(pairs) if overlap else slice(cells, cells + pairs)
        found = history_interval((variant - control)[compared].tolist(), float(control[:cells].var(ddof=1)), cells)
        assert found is not None
        covered += found.interval[0] <= 0 <= found.interval[1]
    return covered / studies


@pytest.mark.parametrize("overlap", [True, False], ids=["among the earlier cells", "others"])
@pytest.mark.parametrize("pairs", [2, 3])
@pytest.mark.parametrize("world", CLASS, ids=lambda world: f"{world.deviations} {world.correlation}")
def test_the_interval_covers_in_every_world_of_the_class(pairs: int, world: NullWorld, overlap: bool) -> None:
    """1,500 studies: three standard errors of 95 % are 1.7 points."""
    assert coverage(world, pairs, cells=10, overlap=overlap, studies=1500) >= 0.945 - 0.013


@pytest.mark.slow
@pytest.mark.parametrize("cells", [5, 7, 20])
@pytest.mark.parametrize("pairs", [2, 3])
@pytest.mark.parametrize("world", CLASS, ids=lambda world: f"{world.deviations} {world.correlation}")
def test_with_many_studies_it_covers_in_94_5_percent_at_least(pairs: int, world: NullWorld, cells: int) -> None:
    """100,000 studies: three standard errors of 95 % are 0.21 points."""
    assert simulated_rules.history_coverage(world, pairs, cells, 100_000)[0] >= 0.945


def test_the_worst_world_is_a_variant_that_varies_three_times_as_far_and_it_has_what_was_calibrated() -> None:
    lowest = min(coverage(WORST, 2, cells=10, overlap=overlap) for overlap in (True, False))
    assert lowest == pytest.approx(0.95, abs=0.012)


def test_outside_the_class_it_covers_less_often() -> None:
    """Check that the simulation can fail: a variant with five times the deviation of the control."""
    assert coverage(NullWorld(deviations="second × 5", correlation=0.0), 2, cells=10, overlap=True) < 0.92


@pytest.mark.parametrize("pairs", [2, 3])
@pytest.mark.parametrize("cells", [5, 10, 20])
def test_the_table_is_what_the_calibration_finds_again(pairs: int, cells: int) -> None:
    random = np.random.default_rng(4)
    ((own, fresh),) = critical_values.history_statistics(WORST, [cells], [pairs], 100_000, random)[pairs]
    again = max(float(np.quantile(each, 0.95)) for each in (own, fresh))
    assert history_critical_value(pairs, cells) == pytest.approx(again, rel=0.025)


def test_more_earlier_cells_never_widen_it_and_those_beyond_the_most_do_not_count() -> None:
    for pairs in (2, 3):
        values = [history_critical_value(pairs, m) for m in range(FEWEST_CELLS, MOST_CELLS + 1)]
        assert values == sorted(values, reverse=True)
        assert history_critical_value(pairs, 100) == values[-1]


def test_with_two_pairs_half_the_interval_is_less_than_half_as_wide_as_students() -> None:
    random = np.random.default_rng(2)
    control, variant = random.standard_normal((2, 2000, 10))
    own = variant[:, :2] - control[:, :2]
    mine = [history_interval(d.tolist(), float(base.var(ddof=1)), 10) for d, base in zip(own, control, strict=True)]
    halves = [(each.interval[1] - each.interval[0]) / 2 for each in mine if each is not None]
    students = stats.t.ppf(0.975, 1) * own.std(axis=1, ddof=1) / math.sqrt(2)
    assert len(halves) == 2000
    assert np.mean(halves) < 0.5 * students.mean()


@pytest.mark.parametrize(
    ("differences", "variance", "cells"),
    [
        ([0.01, 0.02, 0.0, 0.01], 1e-4, 10),
        ([0.01], 1e-4, 10),
        ([], 1e-4, 10),
        ([0.01, 0.02], 1e-4, FEWEST_CELLS - 1),
        ([0.01, 0.02], 0.0, 10),
    ],
    ids=["four pairs", "one pair", "no pair", "too few cells", "cells that do not vary"],
)
def test_it_is_not_used_where_students_interval_is_to_be(differences: list[float], variance: float, cells: int) -> None:
    assert history_interval(differences, variance, cells) is None
    assert MOST_PAIRS == 3

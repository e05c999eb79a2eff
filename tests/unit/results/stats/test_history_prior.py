"""One comparison with a variance prior from earlier cells: coverage in and outside the class, width, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cifar_lab.results.stats import history_prior
from cifar_lab.results.stats.history_prior import (
    FEWEST_CELLS,
    MOST_PAIRS,
    history_critical_value,
    history_interval,
    history_statistics,
)
from cifar_lab.results.stats.worlds import CLASS, World


@pytest.fixture(autouse=True)
def _fewer_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_prior, "STUDIES", 100_000)
    history_critical_value.cache_clear()


def coverage(world: World, pairs: int, cells: int) -> float:
    """Simulate other studies than the calibration did: the accuracies of all arms are scaled and shifted."""
    random = np.random.default_rng(1)
    covered = 0
    studies = 4000
    values = 0.01 * world.draw(studies, 2, cells, random).astype(float) + 0.9
    for control, variant in values:
        differences = (variant - control)[:pairs]
        interval = history_interval(differences.tolist(), float(control.var(ddof=1)), cells)
        assert interval is not None
        covered += interval.interval[0] <= 0 <= interval.interval[1]
    return covered / studies


@pytest.mark.parametrize("pairs", [2, 3])
@pytest.mark.parametrize("world", CLASS, ids=lambda world: f"{world.deviations} {world.correlation}")
def test_the_interval_covers_in_every_world_of_the_class(pairs: int, world: World) -> None:
    assert coverage(world, pairs, cells=10) >= 0.94  # 4,000 studies: the standard error of 95 % is 0.34 %


def test_the_worst_world_is_a_variant_that_varies_three_times_as_far_and_it_has_what_was_calibrated() -> None:
    worst = World(deviations="second × 3", correlation=0.0)
    assert coverage(worst, 2, cells=10) == pytest.approx(0.95, abs=0.012)


def test_with_two_pairs_half_the_interval_is_less_than_half_as_wide_as_students() -> None:
    random = np.random.default_rng(2)
    control, variant = random.standard_normal((2, 2000, 10))
    own = variant[:, :2] - control[:, :2]
    mine = [
        history_interval(each.tolist(), float(base.var(ddof=1)), 10) for each, base in zip(own, control, strict=True)
    ]
    halves = [(each.interval[1] - each.interval[0]) / 2 for each in mine if each is not None]
    students = stats.t.ppf(0.975, 1) * own.std(axis=1, ddof=1) / math.sqrt(2)
    assert len(halves) == 2000
    assert np.mean(halves) < 0.5 * students.mean()


def test_it_is_not_used_where_students_interval_is_as_good_or_the_history_too_short() -> None:
    assert history_interval([0.01] * (MOST_PAIRS + 1), 1e-4, 10) is None
    assert history_interval([0.01], 1e-4, 10) is None
    assert history_interval([0.01, 0.02], 1e-4, FEWEST_CELLS - 1) is None
    assert history_interval([0.01, 0.02], 0.0, 10) is None


def test_the_statistic_is_the_one_of_the_interval() -> None:
    world, pairs, cells = CLASS[0], 3, 7
    random = np.random.default_rng([pairs, cells, 0, len(world.deviations)])
    control, variant = world.draw(50, 2, cells, random).astype(float).transpose(1, 0, 2)
    differences = (variant - control)[:, :pairs]
    for own, base, statistic in zip(differences, control, history_statistics(world, pairs, cells, 50), strict=True):
        interval = history_interval(own.tolist(), float(base.var(ddof=1)), cells)
        assert interval is not None
        assert abs(own.mean()) * math.sqrt(pairs) / interval.deviation == pytest.approx(statistic, rel=1e-4)

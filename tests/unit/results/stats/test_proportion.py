"""Wilson's interval."""

from __future__ import annotations

import pytest
from scipy import stats

from cifar_lab.results.stats.proportion import wilson_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (7, 10), (10, 10), (6529, 10_000), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_the_one_of_scipy(successes: int, trials: int, level: float) -> None:
    known = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert wilson_interval(successes, trials, level=level) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes of"):
        wilson_interval(successes, trials)

"""Power against simulated studies, and the seeds it takes against a search one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_lab.results.stats.paired import student
from cifar_lab.results.stats.power import _FAR, MOST, POWER, power, seeds_needed

pytestmark = pytest.mark.filterwarnings("error")
STUDIES = 40_000


@pytest.mark.parametrize("level", [0.95, 0.95 ** (1 / 7)])
@pytest.mark.parametrize(("n", "difference"), [(2, 3.0), (3, 1.0), (5, 1.0), (10, -0.8), (20, 0.5)])
def test_it_is_the_share_of_simulated_intervals_that_exclude_zero(n: int, difference: float, level: float) -> None:
    draws = np.random.default_rng(n).normal(difference, 1.0, (STUDIES, n))
    half = student(0.0, 1.0, n, level)[1] * draws.std(axis=1, ddof=1)
    share = float((np.abs(draws.mean(axis=1)) > half).mean())
    expected = power(n, difference, 1.0, level)
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / STUDIES)


@pytest.mark.parametrize(("n", "shift"), [(3, 0.5), (5, 2.0), (10, 3.0), (30, 4.0)])
def test_it_is_that_of_the_noncentral_t(n: int, shift: float) -> None:
    critical = stats.t.ppf(0.975, n - 1)
    by_t = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert power(n, shift / math.sqrt(n), 1.0, 0.95) == pytest.approx(by_t, abs=1e-10)


def test_it_is_that_of_the_tables() -> None:
    # Cohen (1988), paired t, two-sided 0.05: an effect of 0.5 takes 34 pairs for a power of 0.8, one of 0.8 takes 15.
    assert seeds_needed(0.5, 1.0, 0.95) == 34
    assert seeds_needed(0.8, 1.0, 0.95) == 15


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_where_nothing_differs_it_is_the_error(level: float) -> None:
    assert power(5, 0.0, 1.0, level) == pytest.approx(1 - level, abs=1e-10)


@pytest.mark.parametrize(("n", "level"), [(2, 0.9999), (3, 0.9999), (5, 0.95)])
def test_where_the_mean_is_far_away_the_two_ways_meet(n: int, level: float) -> None:
    near, far = (
        power(n, difference / math.sqrt(n), 1.0, level) for difference in (_FAR * (1 - 1e-9), _FAR * (1 + 1e-9))
    )
    assert near == pytest.approx(far, abs=1e-7)
    assert power(2, 1e5, 1.0, 0.9999) > 0.9999


@given(st.floats(-8, 8).map(lambda exponent: 10**exponent), st.floats(0.9, 0.9999))
def test_it_is_a_probability_that_grows_with_seeds_however_far_the_difference(difference: float, level: float) -> None:
    found = [power(n, difference, 1.0, level) for n in (2, 3, 5, 9, 17, 65, 257, 2049, MOST)]
    assert all(0 <= value <= 1 for value in found)
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(found))


@pytest.mark.parametrize("level", [0.95, 0.9927])
@pytest.mark.parametrize("difference", [0.2, 0.5, -1.0, 2.0, 5.0, 10.0, 1000.0, 1e6])
def test_the_seeds_needed_are_the_first_that_suffice(difference: float, level: float) -> None:
    n = 2
    while power(n, difference, 1.0, level) < POWER:
        n += 1
    assert seeds_needed(difference, 1.0, level) == n


def test_a_power_that_is_wanted_is_reached() -> None:
    found = seeds_needed(0.5, 1.0, 0.95, wanted=0.95)
    assert found is not None
    assert power(found - 1, 0.5, 1.0, 0.95) < 0.95 <= power(found, 0.5, 1.0, 0.95)


@pytest.mark.parametrize("difference", [0.0, 1e-9, 0.02])
def test_a_difference_that_ten_thousand_seeds_do_not_show_has_no_number(difference: float) -> None:
    assert seeds_needed(difference, 1.0, 0.95) is None


def test_only_the_ratio_of_difference_and_deviation_counts() -> None:
    assert seeds_needed(0.002, 0.003, 0.95) == seeds_needed(-2.0, 3.0, 0.95)


def test_few_seeds_estimate_what_is_needed_as_badly_as_is_said() -> None:
    """The number of seeds is proportional to the variance: check the 90 % range of its estimate over the truth."""
    for pairs, low, high in ((5, 0.18, 2.4), (20, 0.53, 1.6)):
        between = stats.chi2.cdf(high * (pairs - 1), pairs - 1) - stats.chi2.cdf(low * (pairs - 1), pairs - 1)
        assert between == pytest.approx(0.9, abs=0.01)

"""The paired difference against scipy's intervals, and what it says where there is nothing to compute."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_lab.results.stats.paired import (
    NO_PAIR,
    NO_VARIANCE,
    ONE_PAIR,
    Values,
    interval,
    of_differences,
    paired_difference,
    student,
    welch,
)

pytestmark = pytest.mark.filterwarnings("error")
ACCURACIES = st.dictionaries(st.integers(0, 12), st.integers(0, 10_000).map(lambda right: right / 10_000), max_size=10)
RNG = np.random.default_rng(3)
STUDIES = [
    (RNG.normal(0.90, 0.002, n), RNG.normal(0.91, 0.02, n), level) for n in (2, 3, 5, 20) for level in (0.9, 0.95, 0.99)
]


@pytest.mark.parametrize(("a", "b", "level"), STUDIES)
def test_the_interval_is_scipys_paired_students(a: np.ndarray, b: np.ndarray, level: float) -> None:
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)), level=level)
    for scipys in (stats.ttest_rel(a, b), stats.ttest_1samp(a - b, 0)):
        assert found.interval == pytest.approx(tuple(scipys.confidence_interval(level)), abs=1e-10)
    assert found.reason is None
    assert found.level == level
    assert found.pairs == len(a)
    assert found.mean == pytest.approx((a - b).mean())
    assert found.std == pytest.approx((a - b).std(ddof=1))


@pytest.mark.parametrize(("a", "b", "level"), STUDIES)
def test_welchs_interval_is_scipys(a: np.ndarray, b: np.ndarray, level: float) -> None:
    scipys = tuple(stats.ttest_ind(a, b, equal_var=False).confidence_interval(level))
    assert welch(a, b, level) == pytest.approx(scipys, abs=1e-10)
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)), level=level)
    assert found.welch == pytest.approx(scipys, abs=1e-10)


def test_welchs_interval_of_samples_of_two_sizes_is_scipys() -> None:
    a, b = RNG.normal(0, 1, 4), RNG.normal(0, 5, 9)
    assert welch(a, b, 0.95) == pytest.approx(tuple(stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)))


def test_the_interval_of_one_mean_is_scipys() -> None:
    values = RNG.normal(0.9, 0.01, 6)
    assert interval(dict(enumerate(values))) == pytest.approx(
        tuple(stats.ttest_1samp(values, 0).confidence_interval(0.95)), abs=1e-10
    )


@pytest.mark.parametrize("values", [{}, {0: 0.5}, {0: 0.5, 1: 0.5}, {0: 0.3, 1: 0.1 + 0.2}])
def test_one_mean_without_variance_has_no_interval(values: Values) -> None:
    assert interval(values) is None


@pytest.mark.parametrize("n", [3, 4, 5, 10, 20, 100])
def test_the_effect_is_corrected_by_hedges_gamma_functions(n: int) -> None:
    a, b = RNG.normal(0.92, 0.01, n), RNG.normal(0.91, 0.01, n)
    df = n - 1
    j = math.gamma(df / 2) / (math.sqrt(df / 2) * math.gamma((df - 1) / 2))
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    assert found.effect == pytest.approx((a - b).mean() / (a - b).std(ddof=1) * j, abs=1e-10)
    assert j == pytest.approx(1 - 3 / (4 * df - 1), abs=0.03)  # his approximation, as textbooks print it


def test_the_effect_is_right_on_average() -> None:
    draws = RNG.normal(0.8, 1.0, (4000, 5))
    found = [of_differences(dict(enumerate(row))).effect for row in draws]
    assert all(effect is not None for effect in found)
    effects = np.array(found, dtype=float)
    assert abs(effects.mean() - 0.8) < 4 * effects.std() / math.sqrt(len(effects))


def test_of_two_pairs_no_bias_can_be_taken_out_and_a_correlation_is_one_or_minus_one() -> None:
    found = paired_difference({0: 0.91, 1: 0.93}, {0: 0.90, 1: 0.91})
    assert found.interval is not None
    assert (found.effect, found.correlation) == (None, None)


def test_the_correlation_is_pearsons() -> None:
    a, b = RNG.normal(0, 1, 7), RNG.normal(0, 1, 7)
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    assert found.correlation == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-10)


def test_seeds_are_paired_by_number_and_those_that_one_side_lacks_do_not_count() -> None:
    found = paired_difference({3: 0.9, 1: 0.8, 7: 0.1}, {1: 0.7, 2: 0.0, 3: 0.6})
    assert found.differences == pytest.approx({1: 0.1, 3: 0.3})
    assert list(found.differences) == [1, 3]


@pytest.mark.parametrize(("values", "control"), [({}, {}), ({0: 0.5}, {}), ({}, {0: 0.5}), ({0: 0.5}, {1: 0.5})])
def test_without_a_pair_it_says_so(values: Values, control: Values) -> None:
    found = paired_difference(values, control)
    assert (found.reason, found.pairs, found.mean, found.test) == (NO_PAIR, 0, None, None)


def test_one_pair_has_a_difference_and_nothing_else() -> None:
    found = paired_difference({0: 0.75}, {0: 0.5})
    assert (found.reason, found.mean, found.std, found.interval) == (ONE_PAIR, 0.25, None, None)
    assert found.test is not None
    assert found.test.smallest == 1.0


@pytest.mark.parametrize(
    ("values", "control"),
    [
        ({0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.5, 1: 0.5, 2: 0.5}),
        ({0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.3, 1: 0.3, 2: 0.3}),
        ({0: 0.3, 1: 0.4, 2: 0.7}, {0: 0.2, 1: 0.3, 2: 0.6}),  # 0.1 each, but for rounding
    ],
)
def test_differences_that_do_not_vary_have_no_interval_and_it_says_why(values: Values, control: Values) -> None:
    found = paired_difference(values, control)
    assert (found.reason, found.std, found.interval, found.effect) == (NO_VARIANCE, 0.0, None, None)
    assert (found.welch, found.correlation) == (None, None)
    assert found.mean == pytest.approx(values[0] - control[0])


@pytest.mark.parametrize("turned", [False, True])
def test_one_side_that_does_not_vary_leaves_all_but_the_correlation(turned: bool) -> None:
    varies, stays = {0: 0.90, 1: 0.91, 2: 0.93}, dict.fromkeys(range(3), 0.9)
    found = paired_difference(stays, varies) if turned else paired_difference(varies, stays)
    assert found.correlation is None
    assert found.interval == pytest.approx(found.welch)
    assert found.reason is None


@given(ACCURACIES, ACCURACIES)
def test_nothing_is_ever_nan_and_what_is_missing_has_a_reason(values: Values, control: Values) -> None:
    found = paired_difference(values, control)
    for number in _numbers(asdict(found)):
        assert math.isfinite(number)
    assert (found.interval is None) == (found.reason is not None)
    if found.interval is not None:
        assert found.mean is not None
        assert found.interval[0] < found.mean < found.interval[1]


@given(ACCURACIES, ACCURACIES)
def test_the_other_way_round_it_is_the_same_with_the_other_sign(values: Values, control: Values) -> None:
    there, back = paired_difference(values, control), paired_difference(control, values)
    assert there.reason == back.reason
    if there.interval is not None and back.interval is not None:
        assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=1e-12)


def test_differences_by_themselves_say_the_same_but_for_what_needs_both_sides() -> None:
    values, control = {0: 0.5, 1: 0.75, 2: 0.625}, {0: 0.25, 1: 0.875, 2: 0.5}
    paired, alone = paired_difference(values, control), of_differences({0: 0.25, 1: -0.125, 2: 0.125})
    both = {"welch", "correlation"}
    assert {k: v for k, v in asdict(paired).items() if k not in both} == {
        k: v for k, v in asdict(alone).items() if k not in both
    }
    assert (alone.welch, alone.correlation) == (None, None)


def test_a_level_of_one_holds_everything() -> None:
    assert student(0.1, 0.2, 5, 1.0) == (-math.inf, math.inf)


def _numbers(tree: Any) -> list[float]:
    if isinstance(tree, dict):
        return [number for value in tree.values() for number in _numbers(value)]
    if isinstance(tree, tuple):
        return [number for value in tree for number in _numbers(value)]
    return [tree] if isinstance(tree, float) else []

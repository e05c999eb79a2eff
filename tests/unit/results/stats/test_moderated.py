"""Moderated intervals: the formula, the calibrated values, and how often the intervals hold together."""

from __future__ import annotations

import math

import critical_values
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.results.stats.moderated import (
    PRIOR,
    critical_value,
    moderated_intervals,
    moderated_power,
    moderated_seeds_needed,
    moderated_variances,
)
from cifar_lab.results.stats.worlds import CLASS, NullWorld

REFERENCE = {
    2: {2: 7.54, 3: 4.18, 5: 3.00, 10: 2.55},
    4: {2: 6.52, 3: 4.34, 5: 3.18, 10: 2.79},
    7: {2: 6.25, 3: 4.45, 5: 3.34, 10: 3.04},
    10: {2: 6.29, 3: 4.52, 5: 3.51, 10: 3.17},
}
"""Critical values for one control that were found independently, by comparisons and pairs."""


@pytest.mark.parametrize("comparisons", REFERENCE)
@pytest.mark.parametrize("pairs", [2, 3, 5, 10])
def test_critical_values_agree_with_those_found_independently(comparisons: int, pairs: int) -> None:
    assert critical_value(comparisons, pairs) == pytest.approx(REFERENCE[comparisons][pairs], rel=0.025)


def test_an_interval_is_the_mean_and_a_moderated_standard_error_times_the_critical_value() -> None:
    differences = {"a": [0.01, 0.03, 0.02], "b": [-0.02, 0.00, 0.04]}
    found = moderated_intervals(differences)
    own, other = np.var(differences["a"], ddof=1), np.var(differences["b"], ddof=1)
    deviation = math.sqrt((2 * own + PRIOR * (own + other) / 2) / (2 + PRIOR))
    half = critical_value(2, 3) * deviation / math.sqrt(3)
    assert found["a"].deviation == pytest.approx(deviation)
    assert found["a"].interval == pytest.approx((0.02 - half, 0.02 + half))


def test_the_mean_of_variances_is_weighted_by_their_degrees_of_freedom() -> None:
    shrunk = moderated_variances(np.array([1.0, 4.0]), np.array([2.0, 6.0]))
    mean = (2 * 1.0 + 6 * 4.0) / 8
    assert shrunk == pytest.approx([(2 * 1.0 + PRIOR * mean) / (2 + PRIOR), (6 * 4.0 + PRIOR * mean) / (6 + PRIOR)])


@pytest.mark.parametrize(
    "differences", [{}, {"a": [0.1, 0.2]}, {"a": [0.1, 0.2], "b": [0.3]}, {"a": [0.1, 0.1], "b": [0.2, 0.2]}]
)
def test_without_two_differences_that_vary_there_is_nothing_to_moderate(differences: dict[str, list[float]]) -> None:
    assert moderated_intervals(differences) == {}


def test_a_difference_that_is_the_same_in_every_seed_has_an_interval_from_the_others() -> None:
    low, high = moderated_intervals({"a": [0.1, 0.1], "b": [0.2, 0.3], "c": [0.0, 0.3]})["a"].interval
    assert low < 0.1 < high


def test_a_difference_that_is_the_same_in_every_seed_does_not_narrow_those_of_the_others() -> None:
    varying = {"b": [0.2, 0.3], "c": [0.0, 0.3]}
    still = {name: [0.0, 0.0] for name in ("a", "d", "e")}
    assert moderated_intervals(varying | still)["b"] == moderated_intervals(varying)["b"]
    assert moderated_intervals({"b": [0.2, 0.3]} | still) == {}, "one variance is nothing to pool"


def test_differences_that_vary_by_rounding_alone_do_not_vary() -> None:
    assert moderated_intervals({"a": [0.2 - 0.1, 0.3 - 0.2], "b": [0.3 - 0.1, 0.4 - 0.2]}) == {}


def test_unequal_numbers_of_pairs_have_the_critical_value_of_the_smallest() -> None:
    found = moderated_intervals({"a": [0.1, 0.2], "b": [0.1, 0.3, 0.2, 0.5]})
    assert {each.critical for each in found.values()} == {critical_value(2, 2)}


@given(k=st.integers(2, 60), n=st.integers(2, 80), family=st.sampled_from(["control", "any"]))
def test_a_critical_value_falls_with_pairs_and_is_never_below_that_of_one_normal_difference(
    k: int, n: int, family: str
) -> None:
    value = critical_value(k, n, family)  # type: ignore[arg-type]
    assert value >= critical_value(k, n + 1, family) >= 1.959  # type: ignore[arg-type]
    assert critical_value(k, n, "any") >= critical_value(k, n)


@pytest.mark.parametrize(("comparisons", "pairs"), [(1, 5), (4, 1)])
def test_one_comparison_or_one_pair_has_no_critical_value(comparisons: int, pairs: int) -> None:
    with pytest.raises(ValueError, match="start at 2 comparisons and 2 pairs"):
        critical_value(comparisons, pairs)


def covered(world: NullWorld, family: str, k: int, n: int, studies: int = 20_000) -> float:
    """Return the share of studies in which all intervals hold the truth."""
    random = np.random.default_rng([7, k, n])
    found = np.concatenate(list(critical_values.drawn(world, family, k, n, studies, random)))
    kind = "control" if family == "control" else "any"
    return float((found <= critical_value(k, n, kind)).mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("world", CLASS, ids=lambda world: f"{world.deviations}, {world.correlation}")
@pytest.mark.parametrize(("k", "n"), [(2, 2), (4, 3), (6, 7), (8, 5)])
def test_all_intervals_hold_together_in_the_class(world: NullWorld, k: int, n: int) -> None:
    assert covered(world, "control", k, n) >= 0.945 - 3 * math.sqrt(0.95 * 0.05 / 20_000)


@pytest.mark.parametrize("family", ["chain", "disjoint"])
def test_they_hold_together_where_each_is_compared_with_another(family: str) -> None:
    for world in CLASS:
        assert covered(world, family, 4, 5, 10_000) >= 0.945 - 3 * math.sqrt(0.95 * 0.05 / 10_000)


def test_the_statistic_that_is_calibrated_is_that_of_the_intervals() -> None:
    random = np.random.default_rng(3)
    differences = random.normal(size=(200, 4, 3))
    highest = critical_values.statistics(differences)
    for study, statistic in zip(differences, highest, strict=True):
        found = moderated_intervals({str(j): each.tolist() for j, each in enumerate(study)})
        holds = all(low <= 0 <= high for low, high in (each.interval for each in found.values()))
        assert holds == (statistic <= critical_value(4, 3))


@pytest.mark.parametrize(("k", "n"), [(2, 2), (2, 5), (4, 3), (7, 5), (7, 10)])
@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0])
def test_power_is_the_share_of_simulated_intervals_that_exclude_zero(k: int, n: int, shift: float) -> None:
    random = np.random.default_rng([11, k, n])
    control = random.normal(size=(20_000, 1, n))
    differences = random.normal(size=(20_000, k, n)) - control + shift * math.sqrt(2)
    deviations = np.sqrt(moderated_variances(differences.var(axis=-1, ddof=1), n - 1))
    excluded = np.abs(differences.mean(axis=-1)) > critical_value(k, n) * deviations / math.sqrt(n)
    assert moderated_power(n, shift, 1.0, k) == pytest.approx(excluded[:, 0].mean(), abs=0.045)


def test_the_seeds_needed_are_the_first_that_suffice() -> None:
    n = moderated_seeds_needed(0.5, 1.0, 4)
    assert n is not None
    assert moderated_power(n, 0.5, 1.0, 4) >= 0.8 > moderated_power(n - 1, 0.5, 1.0, 4)
    assert moderated_seeds_needed(0.0, 1.0, 4) is None

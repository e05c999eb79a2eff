"""Means, deviations and paired differences, against formulas done another way."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_lab.results.stats.replicates import SeedSummary, differences_by_seed, summarise

ACCURACIES = st.dictionaries(st.integers(0, 20), st.floats(0, 1), max_size=12)
NOTHING = SeedSummary(n=0, mean=None, std=None)


def summarise_differences(values: dict[int, float], control: dict[int, float]) -> SeedSummary:
    return summarise(differences_by_seed(values, control))


def test_of_nothing_there_is_no_mean_and_no_deviation() -> None:
    assert summarise({}) == NOTHING


def test_of_one_seed_there_is_a_mean_and_no_deviation() -> None:
    assert summarise({7: 0.9}) == SeedSummary(n=1, mean=0.9, std=None)


def test_the_deviation_is_that_of_a_sample() -> None:
    summary = summarise({0: 0.90, 1: 0.92})
    assert summary.mean == pytest.approx(0.91)
    assert summary.std == pytest.approx(0.02 / math.sqrt(2))


@given(ACCURACIES.filter(lambda values: len(values) > 1))
def test_mean_and_deviation_are_those_of_the_standard_library(values: dict[int, float]) -> None:
    summary = summarise(values)
    assert (type(summary.mean), type(summary.std)) == (float, float)
    assert summary.n == len(values)
    assert summary.mean == pytest.approx(statistics.fmean(values.values()), abs=1e-12)
    assert summary.std == pytest.approx(statistics.stdev(values.values()), abs=1e-9)


@given(ACCURACIES, ACCURACIES)
def test_the_difference_is_that_of_the_shared_seeds(values: dict[int, float], control: dict[int, float]) -> None:
    shared = [seed for seed in range(21) if seed in values and seed in control]
    difference = summarise_differences(values, control)
    assert difference.n == len(shared)
    if shared:
        by_seed = np.array([values[seed] for seed in shared]) - np.array([control[seed] for seed in shared])
        assert difference.mean == pytest.approx(by_seed.sum() / len(shared), abs=1e-12)
    if len(shared) > 1:
        assert difference.std == pytest.approx(np.sqrt(by_seed.var() * len(shared) / (len(shared) - 1)), abs=1e-9)
    else:
        assert difference.std is None


def test_the_difference_over_its_standard_error_is_scipys_paired_t() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.9, 0.01, 6), rng.normal(0.89, 0.01, 6)
    difference = summarise_differences(dict(enumerate(one)), dict(enumerate(other)))
    assert difference.mean is not None
    assert difference.std is not None
    t = difference.mean / (difference.std / math.sqrt(6))
    assert t == pytest.approx(stats.ttest_rel(one, other).statistic)


def test_a_seed_that_one_of_them_lacks_says_nothing_about_the_difference() -> None:
    control = {0: 0.80, 1: 0.82, 2: 0.10}
    assert summarise_differences({0: 0.81, 1: 0.83, 9: 0.99}, control).mean == pytest.approx(0.01)


def test_seeds_are_paired_by_number_and_not_by_place() -> None:
    difference = summarise_differences({2: 0.3, 0: 0.1, 1: 0.2}, {0: 0.0, 1: 0.1, 2: 0.2})
    assert difference.mean == pytest.approx(0.1)
    assert difference.std == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("values", "control"), [({}, {}), ({0: 0.5}, {}), ({}, {0: 0.5}), ({0: 0.5}, {1: 0.5})])
def test_without_a_shared_seed_there_is_no_difference(values: dict[int, float], control: dict[int, float]) -> None:
    assert summarise_differences(values, control) == NOTHING


def test_a_variant_does_not_differ_from_itself() -> None:
    values = {seed: 0.9 + seed / 1000 for seed in range(5)}
    assert summarise_differences(values, values) == SeedSummary(n=5, mean=0.0, std=0.0)


@given(ACCURACIES, ACCURACIES)
def test_the_difference_changes_its_sign_with_its_direction(one: dict[int, float], other: dict[int, float]) -> None:
    there, back = summarise_differences(one, other), summarise_differences(other, one)
    assert there.n == back.n
    if there.mean is not None and back.mean is not None:
        assert there.mean == pytest.approx(-back.mean, abs=1e-12)

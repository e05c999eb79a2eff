"""Convergence, by numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.results.stats.convergence import (
    EpochsToThreshold,
    early_mean,
    epochs_to,
    epochs_to_difference,
    one_tenth,
    oscillation,
    rise,
    still_rises,
)


def test_the_rise_is_the_last_tenth_against_as_much_before() -> None:
    assert rise([0.1, 0.5]) == pytest.approx(0.4)
    assert rise([0.1] * 9 + [0.3]) == pytest.approx(0.2)
    assert rise([0.0] * 16 + [0.2, 0.4, 0.5, 0.9]) == pytest.approx(0.7 - 0.3)


def test_one_epoch_says_nothing() -> None:
    assert rise([0.5]) is None
    assert rise([]) is None


def test_cells_that_never_got_there_are_counted() -> None:
    assert epochs_to([4, None, 5]) == EpochsToThreshold(mean=4.5, reached=2, of=3)
    assert epochs_to([None]) == EpochsToThreshold(mean=None, reached=0, of=1)
    assert epochs_to([]) == EpochsToThreshold(mean=None, reached=0, of=0)


def test_the_last_tenth_is_one_epoch_at_least_and_a_half_counts_up() -> None:
    assert [one_tenth(epochs) for epochs in (0, 1, 10, 14, 15, 24, 25, 200)] == [1, 1, 1, 1, 2, 2, 3, 20]


@pytest.mark.parametrize("epochs", range(2, 61))
def test_from_two_epochs_on_there_are_twice_as_many_as_the_last_tenth(epochs: int) -> None:
    assert rise([0.5] * epochs) == 0


def test_a_curve_that_falls_has_a_negative_rise() -> None:
    assert rise([0.6, 0.5]) == pytest.approx(-0.1)
    assert not still_rises([-0.1])


def test_epochs_differ_by_seed_where_both_got_there() -> None:
    found = epochs_to_difference({0: 3, 1: 5, 2: None, 3: 4, 8: 1}, {0: 5, 1: 4, 2: 6, 3: None, 9: 1})
    assert found == EpochsToThreshold(mean=-0.5, reached=2, of=4)
    assert epochs_to_difference({0: 3}, {1: 3}) == EpochsToThreshold(mean=None, reached=0, of=0)
    assert epochs_to_difference({}, {}) == EpochsToThreshold(mean=None, reached=0, of=0)


def test_a_rise_is_said_when_it_is_over_a_tenth_of_a_point_and_over_the_noise() -> None:
    assert still_rises([0.0011])
    assert not still_rises([0.0009, 0.0009])
    assert still_rises([0.02, 0.03, 0.04])  # mean 0.03, standard error 0.0058
    assert still_rises([-0.04, 0.08])  # of two seeds there is no error worth the name
    assert not still_rises([-0.04, 0.03, 0.07])  # mean 0.02, standard error 0.032
    assert not still_rises([])


def test_the_early_mean_is_over_the_first_tenth_of_the_epochs() -> None:
    assert early_mean([0.2, 0.4] + [0.9] * 18) == pytest.approx(0.3)
    assert early_mean([0.2, 0.9, 0.9]) == 0.2
    assert early_mean([]) is None


@given(st.lists(st.floats(0, 1), min_size=8, max_size=60))
def test_oscillation_is_the_residual_deviation_of_a_line_through_the_last_third(accuracies: list[float]) -> None:
    count = math.floor(len(accuracies) / 3 + 0.5)
    last, epochs = accuracies[-count:], np.arange(count)
    residuals = np.asarray(last) - np.polyval(np.polyfit(epochs, last, 1), epochs)
    expected = math.sqrt(float((residuals**2).sum()) / (count - 2))
    assert oscillation(accuracies) == pytest.approx(expected, abs=1e-7)


def test_a_curve_that_only_rises_does_not_oscillate_and_a_saw_does() -> None:
    rising, saw = [0.01 * epoch for epoch in range(30)], [0.8 + 0.02 * (epoch % 2) for epoch in range(30)]
    assert oscillation(rising) == pytest.approx(0, abs=1e-12)
    assert oscillation(saw) == pytest.approx(0.011, abs=0.001)
    assert oscillation([a + b for a, b in zip(rising, saw, strict=True)]) == pytest.approx(oscillation(saw) or 0)
    assert oscillation(saw[:7]) is None

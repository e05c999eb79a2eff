"""The sign-flip test against scipy's permutation test, and where it goes over to drawing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_lab.results.stats.permutation import DRAWS, EXACT_UP_TO, SignFlip, sign_flip

RNG = np.random.default_rng(5)
SAMPLES = [RNG.normal(0.3, 1.0, n) for n in (2, 3, 4, 5, 8, 12)] + [RNG.integers(-3, 4, 9) / 100]


@pytest.mark.parametrize("differences", SAMPLES, ids=len)
def test_it_is_scipys_exact_permutation_test(differences: np.ndarray) -> None:
    scipys = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    found = sign_flip(differences.tolist())
    assert found is not None
    assert found.is_exact
    assert found.p_value == pytest.approx(scipys.pvalue, abs=1e-10)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=7))
def test_it_counts_the_patterns_of_signs_that_reach_as_far(points: list[int]) -> None:
    """Counted in whole numbers, in which ties are ties; tested in tenths of a point, which round."""
    sums = [
        sum(s * d for s, d in zip(signs, points, strict=True))
        for signs in itertools.product((1, -1), repeat=len(points))
    ]
    expected = np.mean([abs(total) >= abs(sum(points)) for total in sums])
    found = sign_flip([point / 1000 for point in points])
    assert found is not None
    assert found.p_value == pytest.approx(expected, abs=1e-12)


def test_of_nothing_there_is_no_test() -> None:
    assert sign_flip([]) is None


def test_one_pair_says_nothing() -> None:
    assert sign_flip([0.5]) == SignFlip(p_value=1.0, is_exact=True, smallest=1.0)


def test_where_nothing_differs_every_pattern_is_as_far() -> None:
    assert sign_flip([0.0] * 6) == SignFlip(p_value=1.0, is_exact=True, smallest=1 / 32)


@pytest.mark.parametrize(("pairs", "smallest"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125), (10, 2**-9)])
def test_all_of_one_sign_is_the_smallest_p_value_that_so_many_pairs_can_have(pairs: int, smallest: float) -> None:
    for sign in (1, -1):
        found = sign_flip([sign * (0.01 + i / 1000) for i in range(pairs)])
        assert found == SignFlip(p_value=smallest, is_exact=True, smallest=smallest)


def test_twenty_pairs_are_counted_and_twenty_one_are_drawn() -> None:
    assert EXACT_UP_TO == 20
    for pairs, is_exact in ((20, True), (21, False)):
        found = sign_flip([0.1] * pairs)
        assert found is not None
        assert found.is_exact is is_exact
        assert found.p_value == found.smallest == pytest.approx(2**-19 if is_exact else 1 / (DRAWS + 1))


def test_patterns_that_are_drawn_come_near_the_count_of_all() -> None:
    differences = RNG.normal(0.4, 1.0, 21)
    # All 2²⁰ patterns whose first sign is fixed, eight at a time.
    half = np.zeros(1)
    for value in differences[1:]:
        half = np.concatenate((half + value, half - value))
    exact = float((np.abs(half + differences[0]) >= abs(differences.sum()) - 1e-9).mean())
    found = sign_flip(differences.tolist())
    assert found is not None
    assert 0.01 < exact < 0.5
    assert abs(found.p_value - exact) < 4 * np.sqrt(exact * (1 - exact) / DRAWS)


def test_the_same_differences_give_the_same_p_value_again() -> None:
    differences = RNG.normal(0.2, 1.0, 30).tolist()
    assert sign_flip(differences) == sign_flip(differences)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10))
def test_direction_unit_and_order_do_not_matter(differences: list[float]) -> None:
    turned = sign_flip([-100 * value for value in reversed(differences)])
    found = sign_flip(differences)
    assert found is not None
    assert turned is not None
    assert found.smallest <= found.p_value <= 1
    assert turned.p_value == pytest.approx(found.p_value, abs=1e-12)

"""Two networks on the same images: the exact test by hand, the bootstrap against images drawn one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cifar_lab.results.stats.mcnemar import compare_networks

pytestmark = pytest.mark.filterwarnings("error")


def _answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers of two networks with that many images of each kind, in an order drawn by chance."""
    counts = (both, only_a, only_b, neither)
    order = np.random.default_rng(2).permutation(sum(counts))
    a = np.repeat([True, True, False, False], counts)[order]
    b = np.repeat([True, False, True, False], counts)[order]
    return a, b


def test_disagreements_are_counted_by_image() -> None:
    found = compare_networks(*_answers(both=60, only_a=5, only_b=15, neither=20))
    assert (found.images, found.only_a, found.only_b) == (100, 5, 15)


def test_the_difference_is_that_of_the_accuracies() -> None:
    a, b = _answers(both=60, only_a=5, only_b=15, neither=20)
    assert compare_networks(a, b).difference == pytest.approx(b.mean() - a.mean())
    assert compare_networks(a, b).difference == pytest.approx(0.1)


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 15), (0, 6), (1, 0), (7, 7), (30, 12)])
def test_the_p_value_is_mcnemars_exact_one(only_a: int, only_b: int) -> None:
    found = compare_networks(*_answers(both=40, only_a=only_a, only_b=only_b, neither=10))
    n, fewer = only_a + only_b, min(only_a, only_b)
    by_hand = min(1.0, 2 * sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n)
    assert found.p_value == pytest.approx(by_hand, abs=1e-10)
    assert found.p_value == pytest.approx(stats.binomtest(only_a, n).pvalue, abs=1e-10)


def test_the_interval_is_that_of_images_drawn_one_by_one() -> None:
    a, b = _answers(both=700, only_a=80, only_b=130, neither=90)
    rng, drawn = np.random.default_rng(9), []
    for _ in range(10_000):
        chosen = rng.integers(0, len(a), len(a))
        drawn.append(b[chosen].mean() - a[chosen].mean())
    # An end of the interval is off by about 0.0004 in either; half an image is 0.0005.
    assert compare_networks(a, b).interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.0025)


def test_the_interval_is_scipys_paired_bootstrap() -> None:
    a, b = _answers(both=300, only_a=40, only_b=70, neither=90)
    scipys = stats.bootstrap(
        (a.astype(float), b.astype(float)),
        lambda a, b, axis: b.mean(axis) - a.mean(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(4),
    )
    assert compare_networks(a, b).interval == pytest.approx(tuple(scipys.confidence_interval), abs=0.005)


@pytest.mark.parametrize("images", [1, 50])
@pytest.mark.parametrize("right", [True, False])
def test_networks_that_agree_everywhere_do_not_differ(images: int, right: bool) -> None:
    answers = np.full(images, right)
    found = compare_networks(answers, answers)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.interval[0] < 0 < found.interval[1]


def test_networks_that_differ_on_every_image_leave_no_doubt_about_these_images() -> None:
    found = compare_networks(np.zeros(8, dtype=bool), np.ones(8, dtype=bool))
    assert (found.difference, found.interval, found.p_value) == (1.0, (1.0, 1.0), 2 / 2**8)


def test_the_other_way_round_it_is_the_same_with_the_other_sign() -> None:
    a, b = _answers(both=700, only_a=80, only_b=130, neither=90)
    there, back = compare_networks(a, b), compare_networks(b, a)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.difference == -back.difference
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=0.0025)


def test_the_same_answers_give_the_same_interval_again() -> None:
    a, b = _answers(both=70, only_a=8, only_b=13, neither=9)
    assert compare_networks(a, b) == compare_networks(a, b)


@pytest.mark.parametrize("images", [20, 1000, 10_000])
def test_no_disagreement_in_a_sample_is_no_proof_of_none(images: int) -> None:
    same = np.arange(images) % 3 > 0
    low, high = compare_networks(same, same.copy()).interval
    assert low == -high
    assert high == pytest.approx(3 / images, rel=0.1)
    assert (1 - high) ** images == pytest.approx(0.05)

"""Rank intervals and simultaneous means: they hold the truth as often as they say, and tell apart what differs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.stats.ranking import rank_intervals, simultaneous_means


def drawn(
    means: list[float], seeds: int, chance: np.random.Generator, spread: float = 1.0
) -> dict[str, dict[int, float]]:
    return {str(i): dict(enumerate(chance.normal(mean, spread, seeds).tolist())) for i, mean in enumerate(means)}


def test_what_is_far_apart_has_one_rank_each() -> None:
    values = drawn([1.0, 3.0, 2.0], 5, np.random.default_rng(0), spread=0.01)
    assert rank_intervals(values) == {"0": (3, 3), "1": (1, 1), "2": (2, 2)}


def test_what_is_alike_may_have_every_rank() -> None:
    assert set(rank_intervals(drawn([0.0] * 4, 5, np.random.default_rng(1))).values()) == {(1, 4)}


def test_one_seed_tells_nothing_apart() -> None:
    assert rank_intervals({"a": {1: 0.1}, "b": {1: 0.9}, "c": {}}) == dict.fromkeys("abc", (1, 3))


@pytest.mark.parametrize("means", [[0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 1.0, 4.0], [0.0, 2.0, 2.0, 2.0]])
def test_all_true_ranks_are_within_in_95_percent(means: list[float]) -> None:
    chance, studies = np.random.default_rng(2), 400
    lowest = [1 + sum(other > own for other in means) for own in means]
    highest = [sum(other >= own for other in means) for own in means]
    errors = 0
    for _ in range(studies):
        found = rank_intervals(drawn(means, 4, chance)).values()
        errors += any(
            low > first or high < last for (low, high), first, last in zip(found, lowest, highest, strict=True)
        )
    assert errors <= stats.binom.ppf(0.999, studies, 0.05)


def test_all_means_are_within_in_95_percent() -> None:
    chance, studies, errors = np.random.default_rng(3), 400, 0
    for _ in range(studies):
        found = simultaneous_means(drawn([0.0] * 4, 4, chance))
        errors += not all(held is not None and held[0] <= 0 <= held[1] for held in found.values())
    assert errors <= stats.binom.ppf(0.999, studies, 0.05)


def test_one_variant_has_students_interval_and_one_value_none() -> None:
    values = {"a": {1: 0.5, 2: 0.6, 3: 0.9}, "b": {1: 0.5}}
    found = simultaneous_means(values)
    own = list(values["a"].values())
    level = per_comparison(0.95, 2)
    assert found["a"] == pytest.approx(stats.t.interval(level, 2, np.mean(own), stats.sem(own)))
    assert found["b"] is None

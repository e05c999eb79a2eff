"""Paired differences of a variant from its control, over the seeds that both have, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from cifar_lab.results.stats.permutation import SignFlip, sign_flip
from cifar_lab.results.stats.replicates import differences_by_seed

Values = Mapping[int, float]
"""A measurement by seed."""
Interval = tuple[float, float]

NO_PAIR = "no seed is finished in both"
ONE_PAIR = "one seed: no deviation, no interval"
NO_VARIANCE = "the same difference in every seed: no variance to build an interval on"
ALIKE = 1e-12
"""A deviation below this is rounding."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Statistics of `values - control`. A value that cannot be computed is None, and `reason` says why."""

    differences: dict[int, float]
    """Difference by seed, in order."""
    mean: float | None = None
    std: float | None = None
    """Sample standard deviation of the differences; None below two."""
    interval: Interval | None = None
    """Student interval of the mean, at `level`."""
    level: float
    """Confidence level of `interval`: 0.95 for one comparison, higher for one of several."""
    effect: float | None = None
    """Standardized effect size: mean over standard deviation, bias-corrected (Hedges' g). None below three pairs."""
    correlation: float | None = None
    """Pearson correlation of the pairs. None below three pairs, or if one side does not vary."""
    welch: Interval | None = None
    """Welch interval at the same level, as if the seeds were not paired."""
    test: SignFlip | None = None
    reason: str | None = None

    @property
    def pairs(self) -> int:
        return len(self.differences)


def paired_difference(values: Values, control: Values, *, level: float = 0.95) -> PairedDifference:
    """Compute the difference over the seeds that both have; other seeds are ignored."""
    found = of_differences(differences_by_seed(values, control), level=level)
    if found.interval is None:
        return found
    a, b = (np.array([side[seed] for seed in found.differences]) for side in (values, control))
    return replace(found, correlation=_correlation(a, b), welch=welch(a, b, level))


def of_differences(by_seed: Values, *, level: float = 0.95) -> PairedDifference:
    """Compute the statistics of given differences by seed; without Welch's interval and the correlation."""
    array = np.array(list(by_seed.values()))
    found = PairedDifference(differences=dict(by_seed), level=level)
    if len(array) == 0:
        return replace(found, reason=NO_PAIR)
    mean = float(array.mean())
    found = replace(found, mean=mean, test=sign_flip(array.tolist()))
    if len(array) == 1:
        return replace(found, reason=ONE_PAIR)
    std = float(array.std(ddof=1))
    if std < ALIKE:
        return replace(found, std=0.0, reason=NO_VARIANCE)
    effect = mean / std * _unbiased(len(array) - 1) if len(array) > 2 else None
    return replace(found, std=std, interval=student(mean, std, len(array), level), effect=effect)


def student(mean: float, std: float, n: int, level: float) -> Interval:
    """Return Student's interval of a mean of `n` ≥ 2 normal values."""
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * std / math.sqrt(n)
    return mean - half, mean + half


def interval(values: Values, *, level: float = 0.95) -> Interval | None:
    """Return Student's interval of the mean of `values`; None below two, or if they do not vary."""
    array = np.array(list(values.values()))
    if len(array) < 2 or (std := float(array.std(ddof=1))) < ALIKE:
        return None
    return student(float(array.mean()), std, len(array), level)


def prediction_interval(values: Values, *, level: float = 0.95) -> Interval | None:
    """Return Student's prediction interval for one value more; None below two, or where they do not vary.

    It holds the next value with probability `level`: the mean's uncertainty and one value's own deviation together.
    """
    array = np.array(list(values.values()))
    if len(array) < 2 or (std := float(array.std(ddof=1))) < ALIKE:
        return None
    return student(float(array.mean()), std * math.sqrt(len(array) + 1), len(array), level)


def welch(a: np.ndarray, b: np.ndarray, level: float) -> Interval | None:
    """Return the interval of mean(a) - mean(b): unpaired, unequal variances, at least two each; None without variance.

    Welch (1947), "The generalization of 'Student's' problem when several different population variances are involved".
    """
    of_a, of_b = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    if of_a + of_b < ALIKE**2:
        return None
    degrees = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * math.sqrt(of_a + of_b)
    difference = float(a.mean() - b.mean())
    return difference - half, difference + half


def _unbiased(degrees: int) -> float:
    """Return the factor that removes the small-sample bias of a mean over a deviation of `degrees` ≥ 2.

    Hedges (1981), "Distribution theory for Glass's estimator of effect size and related estimators".
    """
    return math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2)) * math.sqrt(2 / degrees)


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Pearson's correlation; None below three pairs, where it is ±1, or if one side does not vary."""
    if len(a) < 3 or min(a.std(), b.std()) < ALIKE:
        return None
    return float(np.corrcoef(a, b)[0, 1])

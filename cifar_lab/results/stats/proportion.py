"""Confidence interval of a proportion, such as the accuracy of one network over images."""

from __future__ import annotations

import math

from scipy import stats

from cifar_lab.results.stats.paired import Interval


def wilson_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion, within 0 to 1.

    It describes one network on images like these; the deviation between trainings is not in it. Wilson (1927),
    "Probable inference, the law of succession, and statistical inference".

    Raises:
        ValueError: there is no trial, or the successes are not between 0 and the trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    z = float(stats.norm.ppf((1 + level) / 2))
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)

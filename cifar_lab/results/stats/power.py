"""Power analysis: the number of seeds needed to detect a difference."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import stats

POWER = 0.8
MOST = 10_000
_FAR = 1e4
"""Standard errors beyond which chance in the mean does not count, and scipy's series may not converge."""


def power(n: int, difference: float, std: float, level: float) -> float:
    """Return the probability that the Student interval of paired differences excludes 0, on either side.

    Args:
        n: number of pairs, ≥ 2.
        difference: true mean of the differences.
        std: their true deviation, > 0.
        level: confidence of the interval.

    Their t is noncentral. Both sides are read off its upper tail: scipy's lower one is NaN where it is far away. Where
    the mean is far from 0, only the deviation that is estimated, a chi-squared variable, decides.
    """
    critical = float(stats.t.ppf((1 + level) / 2, n - 1))
    shift = abs(difference) / std * math.sqrt(n)
    if shift > _FAR:
        return float(stats.chi2.cdf((n - 1) * (shift / critical) ** 2, n - 1))
    return sum(float(stats.nct.sf(critical, n - 1, side)) for side in (shift, -shift))


def seeds_needed(difference: float, std: float, level: float, wanted: float = POWER) -> int | None:
    """Return the smallest number of pairs with power `wanted` for `difference`; None if `MOST` do not suffice.

    `std` is taken as known. The result grows with its square, which few seeds estimate badly: from five pairs, nine
    estimates in ten lie between 0.18 and 2.4 times the true value; from twenty, between 0.53 and 1.6.
    """
    return first_enough(lambda pairs: power(pairs, difference, std, level) >= wanted, 1, MOST)


def first_enough(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the first number in (low, high] that is enough, where all that follow are too; None if none is."""
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

"""Power of claims: the probability that a claim which is true is called supported, by the intervals that judge it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import stats
from scipy.special import ndtr

from cifar_lab.results.stats.moderated import Family, critical_value, moderated_scales
from cifar_lab.results.stats.power import POWER, first_enough

FEASIBLE = 100
"""Most seeds of a variant that are called feasible."""
_NODES = 400
"""Quantiles of the deviation's distribution over which Student's power is averaged."""
Assertion = Literal["better", "alike", "not better", "reaches"]


@dataclass(frozen=True, kw_only=True)
class ClaimDesign:
    """Intervals that judge a claim: their number of pairs, the true deviation, and their method."""

    pairs: int
    """Seeds that both variants have; for an accuracy that is reached, the seeds of the variant. At least 1."""
    deviation: float
    """True standard deviation of the paired differences, > 0; for an accuracy that is reached, that of a cell."""
    level: float = 0.95
    """Confidence of Student's interval."""
    moderated: int | None = None
    """Number of differences whose variances are pooled, at least 2; None for Student's interval."""
    kind: Family = "control"
    """How the differences hang together, for moderated intervals."""

    def within(self, low: float, high: float, difference: float, *, is_prediction: bool = False) -> float:
        """Return the probability that the interval lies within [low, high]; 0 for a single pair, which has none.

        Args:
            low: lower end, -inf for none.
            high: upper end, inf for none.
            difference: true mean of the paired differences, or of a cell.
            is_prediction: the interval is one for one value more, in place of the mean's.

        The mean and the deviation of normal values are independent: the probability that the mean lies far enough from
        both ends is averaged over the distribution of the deviation.
        """
        if self.pairs < 2:
            return 0.0
        error = self.deviation / math.sqrt(self.pairs)
        reach = _half_widths(self.pairs, self.level, self.moderated, self.kind)
        reach = reach * (math.sqrt(self.pairs + 1) if is_prediction else 1.0)
        above = ndtr((high - difference) / error - reach) - ndtr((low - difference) / error + reach)
        return float(np.clip(above, 0.0, None).mean())


@lru_cache(maxsize=1024)
def _half_widths(pairs: int, level: float, moderated: int | None, kind: Family) -> np.ndarray:
    """Return equally likely half widths of the interval, in true standard errors of the mean."""
    if moderated is not None:
        return critical_value(moderated, pairs, kind) * moderated_scales(pairs, moderated)
    degrees = pairs - 1
    scales: np.ndarray = np.sqrt(stats.chi2.ppf((np.arange(_NODES) + 0.5) / _NODES, degrees) / degrees)
    return float(stats.t.ppf((1 + level) / 2, degrees)) * scales


@dataclass(frozen=True, kw_only=True)
class TrueClaim:
    """Claim with the truth that is assumed; all numbers are fractions of accuracy."""

    relation: Assertion
    difference: float = 0.0
    """True difference, positive in the direction of the claim; 0 for an accuracy, which is reached exactly."""
    margin: float
    """Difference that does not matter."""
    size: float | None = None
    """Claimed size, where it is judged."""
    tolerance: float = 0.0
    direction_only: bool = False
    """True where only the direction of `better` is judged, elsewhere than where the claim was made."""

    def power(self, design: ClaimDesign) -> float:
        """Return the probability that `judge_difference` or `judge_accuracy` calls the claim supported."""
        if self.relation == "reaches":
            return design.within(-self.tolerance, self.tolerance, self.difference, is_prediction=True)
        if self.relation == "alike":
            return design.within(-self.margin, self.margin, self.difference)
        if self.relation == "not better":
            return design.within(-self.margin, math.inf, self.difference)
        low, high = 0.0, math.inf
        if self.size is not None:
            low, high = max(0.0, self.size - self.tolerance), self.size + self.tolerance
        supported = design.within(low, high, self.difference)
        if self.direction_only or (self.size is not None and self.size <= self.margin):
            return supported
        return max(0.0, supported - design.within(low, min(high, self.margin), self.difference))  # else negligible

    def seeds_needed(self, design: ClaimDesign, wanted: float = POWER) -> int | None:
        """Return the fewest seeds with power `wanted`; None if `FEASIBLE` seeds do not have it."""

        def enough(pairs: int) -> bool:
            return self.power(replace(design, pairs=pairs)) >= wanted

        return first_enough(enough, 1, FEASIBLE)

    def detectable(self, design: ClaimDesign, wanted: float = POWER) -> float | None:
        """Return the smallest true difference that a `better` claim without a size is supported for with `wanted`.

        A fraction of accuracy, exact to 0.01 points; None for other claims, and where a difference of 1 is too small.
        """
        if self.relation != "better" or self.size is not None:
            return None

        def enough(steps: int) -> bool:
            return replace(self, difference=steps * 1e-4).power(design) >= wanted

        steps = first_enough(enough, 0, 10_000)
        return None if steps is None else steps * 1e-4

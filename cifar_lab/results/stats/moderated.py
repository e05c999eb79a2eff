"""Simultaneous confidence intervals of several paired differences, with moderated variances.

With two to five seeds, a difference's own variance is a poor estimate. The variances of all k differences of a table
are therefore shrunk towards their mean, as limma does for genes (Smyth 2004, "Linear models and empirical Bayes methods
for assessing differential expression in microarray experiments", Stat. Appl. Genet. Mol. Biol. 3), here with a fixed
prior weight of `PRIOR` degrees of freedom:

    s̃_j² = ((n - 1) s_j² + PRIOR mean(s²)) / (n - 1 + PRIOR)

The interval of a difference is Δ_j ± c(k, n) s̃_j / √n. The critical values are calibrated by simulation so that all k
intervals hold together in at least 95 % of studies in the worst of a class of worlds: equal deviations, log-normal ones
(0.25 and 0.5), a control or one variant with three times the deviation of the others, and seeds whose accuracies are
correlated from 0 to 0.5 (`benchmarks/critical_values.py`; coverage in and outside that class: `docs/statistics.md`).
One difference that varies far more than all others has an interval that is too narrow, above all with two pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.results.stats.paired import ALIKE, Interval
from cifar_lab.results.stats.power import MOST, POWER, first_enough

PRIOR = 4.0
"""Degrees of freedom that the mean of all variances counts for."""
TABLE = Path(__file__).with_name("critical_values.json")
_NODES = 48
"""Quantiles of each chi-squared distribution over which power is averaged."""
Family = Literal["control", "any"]
"""Differences to one control; or any others: to the stage before, or of disjoint pairs."""


@dataclass(frozen=True, kw_only=True)
class ModeratedInterval:
    """The interval of one difference among several."""

    interval: Interval
    deviation: float
    """Moderated deviation of the paired differences, s̃."""
    critical: float
    """c(k, n): half the interval's width in standard errors."""


def moderated_variances(variances: np.ndarray, degrees: float | np.ndarray) -> np.ndarray:
    """Shrink sample variances (..., k) towards their mean over the last axis.

    `degrees`: degrees of freedom of each variance; where they differ, the mean is weighted by them. Differences that do
    not vary are not in the mean: they say nothing of how far the others do.
    """
    weights = np.broadcast_to(np.asarray(degrees, dtype=variances.dtype), variances.shape)
    counted = np.where(variances >= ALIKE**2, weights, 0.0)
    mean = (counted * variances).sum(axis=-1, keepdims=True) / counted.sum(axis=-1, keepdims=True)
    shrunk: np.ndarray = (weights * variances + PRIOR * mean) / (weights + PRIOR)
    return shrunk


def family_of(others: Iterable[str | None]) -> Family:
    """Return how differences hang together, given what each is a difference to."""
    return "control" if len(set(others)) == 1 else "any"


def moderated_intervals(
    differences: Mapping[str, Sequence[float]], family: Family = "control", critical: float | None = None
) -> dict[str, ModeratedInterval]:
    """Return the simultaneous 95 % interval of each difference that has two pairs or more.

    Args:
        differences: by name, the paired differences seed by seed. Those with fewer than two are left out.
        family: how the differences hang together.
        critical: half the width of every interval in standard errors; None: the calibrated c(k, n).

    Returns:
        An entry for each difference with two pairs or more; empty if fewer than two of these vary: then nothing can be
        shrunk.

    Where the numbers of pairs differ, all intervals have the critical value of the smallest, which is the largest one.
    Where some differences do not vary, it is at least that of so many comparisons as do: few variances were pooled.
    """
    arrays = {name: np.asarray(values, dtype=float) for name, values in differences.items() if len(values) >= 2}
    degrees = np.array([len(array) - 1 for array in arrays.values()], dtype=float)
    variances = np.array([array.var(ddof=1) for array in arrays.values()])
    vary = int((variances >= ALIKE**2).sum())
    if vary < 2:
        return {}
    deviations = np.sqrt(moderated_variances(variances, degrees))
    if critical is None:
        fewest = int(degrees.min()) + 1
        critical = max(critical_value(k, fewest, family) for k in (vary, len(arrays)))
    result = {}
    for (name, array), deviation in zip(arrays.items(), deviations.tolist(), strict=True):
        mean, half = float(array.mean()), critical * deviation / math.sqrt(len(array))
        result[name] = ModeratedInterval(interval=(mean - half, mean + half), deviation=deviation, critical=critical)
    return result


@lru_cache
def critical_value(comparisons: int, pairs: int, family: Family = "control") -> float:
    """Return c(k, n) for k ≥ 2 comparisons of n ≥ 2 pairs, read off the calibrated table.

    Between its columns the value is linear in 1 / (n - 1), between its rows linear in ln k. Beyond the last column
    that column's value serves, which is a little too wide; beyond the last row the value grows as the normal quantile
    of so many comparisons does.

    Raises:
        ValueError: there are fewer than two comparisons or pairs.
    """
    if comparisons < 2 or pairs < 2:
        raise ValueError(f"critical values start at 2 comparisons and 2 pairs, not {comparisons} and {pairs}")
    columns, rows, values = _table(family)
    by_row = [float(np.interp(-1 / (min(pairs, columns[-1]) - 1), [-1 / (n - 1) for n in columns], row))
              for row in values]  # fmt: skip
    value = float(np.interp(math.log(comparisons), [math.log(k) for k in rows], by_row))
    return value * max(1.0, _normal(comparisons) / _normal(rows[-1]))


def _normal(comparisons: int) -> float:
    """Return the two-sided normal quantile at Šidák's level for so many comparisons at 95 %."""
    return float(stats.norm.isf((1 - per_comparison(CONFIDENCE, comparisons)) / 2))


@lru_cache
def _table(family: Family) -> tuple[list[int], list[int], list[list[float]]]:
    """Return the columns (pairs), the rows (comparisons) and the values of the calibrated table."""
    tree = json.loads(TABLE.read_text())
    return tree["pairs"], tree["comparisons"], tree[family]


def moderated_scales(pairs: int, comparisons: int) -> np.ndarray:
    """Return equally likely moderated deviations s̃ of one of k differences, in units of the true deviation.

    The shape is (quantiles of the own variance, quantiles of the others' mean). The variances are taken as independent
    and all true deviations as equal.
    """
    degrees, k = pairs - 1, comparisons
    at = (np.arange(_NODES) + 0.5) / _NODES
    own = stats.chi2.ppf(at, degrees)[:, None]
    others = stats.chi2.ppf(at, (k - 1) * degrees)[None, :]
    mean = (own + others) / (k * degrees)
    scales: np.ndarray = np.sqrt((own + PRIOR * mean) / (degrees + PRIOR))
    return scales


def moderated_power(
    pairs: int, difference: float, deviation: float, comparisons: int, family: Family = "control", wider: float = 1.0
) -> float:
    """Return the probability that the moderated interval of one difference excludes 0, on either side.

    Args:
        pairs: n ≥ 2 of every difference.
        difference: true mean of the paired differences.
        deviation: true deviation of the paired differences, > 0, the same for all k differences.
        comparisons: k ≥ 2.
        family: how the differences hang together.
        wider: critical value over c(k, n): that of a look of a stopping rule is larger.

    The variances of the k differences are taken as independent, which they are not where all have one control:
    simulated power agrees within 4.5 percentage points (`tests/unit/results/stats/test_moderated.py`).
    """
    shift = abs(difference) / deviation * math.sqrt(pairs)
    reach = wider * critical_value(comparisons, pairs, family) * moderated_scales(pairs, comparisons)
    return float((stats.norm.sf(reach - shift) + stats.norm.sf(reach + shift)).mean())


def moderated_seeds_needed(
    difference: float, deviation: float, comparisons: int, family: Family = "control", wanted: float = POWER,
    wider: float = 1.0,
) -> int | None:  # fmt: skip
    """Return the fewest pairs that show `difference` with probability `wanted`; None if `MOST` pairs do not.

    `deviation` is taken as if it were known; the pairs that are needed go with its square. `wider`: critical value over
    c(k, n).
    """
    if deviation <= 0:
        return 2

    def enough(pairs: int) -> bool:
        return moderated_power(pairs, difference, deviation, comparisons, family, wider) >= wanted

    return first_enough(enough, 1, MOST)

"""Interval of a single comparison of two or three seeds, with a variance prior from earlier cells of the control.

One difference has no others to share a variance with (`results.stats.moderated`). Earlier cells of the control, such as
those of `noise_floor`, tell how far seeds move an accuracy: s² of m of them gives a paired difference of uncorrelated
cells a prior variance of 2 s², which counts for `PRIOR` degrees of freedom:

    s̃² = ((n - 1) s_d² + PRIOR 2 s²) / (n - 1 + PRIOR)

The interval is Δ ± c(n, m) s̃ / √n; c is simulated so that it holds in 95 % of studies in the worst of the class of
worlds (`results.stats.worlds`), in which the variant may vary three times as far as the control. Against that world the
prior pays with two pairs (half the interval is 4.2 to 4.4 deviations of a cell wide on average, Student's 10.1) and a
little with three (2.9 against 3.1); from four pairs Student's interval is the narrower one and is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from cifar_lab.results.stats.moderated import ModeratedInterval
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
from cifar_lab.results.stats.paired import ALIKE
from cifar_lab.results.stats.worlds import CLASS, World

PRIOR = 2.0
"""Degrees of freedom that the prior variance counts for."""
MOST_PAIRS = 3
"""Largest number of pairs with which the prior narrows the interval."""
FEWEST_CELLS, MOST_CELLS = 5, 20
"""Number of earlier cells that a prior needs, and the number beyond which more are not counted."""
STUDIES = 400_000
"""Simulated studies behind each critical value; the same ones each time."""


def history_interval(differences: Sequence[float], variance: float, cells: int) -> ModeratedInterval | None:
    """Return the 95 % interval of the mean of paired differences; None where Student's is to be used.

    Args:
        differences: paired differences, one for each seed.
        variance: sample variance of the accuracies of earlier cells of the control, as fractions squared.
        cells: number of these cells, the control's own of this comparison among them.
    """
    pairs = len(differences)
    if not 2 <= pairs <= MOST_PAIRS or cells < FEWEST_CELLS or variance < ALIKE**2:
        return None
    own = float(np.var(differences, ddof=1))
    deviation = math.sqrt(((pairs - 1) * own + PRIOR * 2 * variance) / (pairs - 1 + PRIOR))
    critical = history_critical_value(pairs, min(cells, MOST_CELLS))
    mean, half = float(np.mean(differences)), critical * deviation / math.sqrt(pairs)
    return ModeratedInterval(interval=(mean - half, mean + half), deviation=deviation, critical=critical)


@lru_cache
def history_critical_value(pairs: int, cells: int) -> float:
    """Return c(n, m): the largest 95 % quantile of |Δ| √n / s̃ over the class of worlds."""
    return max(float(np.quantile(history_statistics(world, pairs, cells, STUDIES), CONFIDENCE)) for world in CLASS)


def history_statistics(world: World, pairs: int, cells: int, studies: int) -> np.ndarray:
    """Simulate |Δ| √n / s̃ of studies without a difference: (studies,).

    The control has `cells` cells, of which the first `pairs` are compared.
    """
    random = np.random.default_rng([pairs, cells, round(100 * world.correlation), len(world.deviations)])
    control, variant = world.draw(studies, 2, max(cells, pairs), random).astype(float).transpose(1, 0, 2)
    differences = (variant - control)[:, :pairs]
    own, before = differences.var(axis=1, ddof=1), control[:, :cells].var(axis=1, ddof=1)
    deviation = np.sqrt(((pairs - 1) * own + PRIOR * 2 * before) / (pairs - 1 + PRIOR))
    statistics: np.ndarray = np.abs(differences.mean(axis=1)) * math.sqrt(pairs) / deviation
    return statistics

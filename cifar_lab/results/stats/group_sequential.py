"""Group-sequential analysis: interim looks at the results with a controlled overall error rate.

The rule is fixed beforehand: the numbers of seeds after which to look, and the share of the error that each look may
spend. Lan and DeMets (1983), "Discrete sequential boundaries for clinical trials": the boundary of each look follows
from the spending function. The repeated confidence intervals (Jennison and Turnbull 1989, "Interim analyses: the
repeated confidence interval approach") hold at all looks simultaneously, and so at whichever one the training stopped.

Published boundaries assume Gaussian means of known variance; with five pairs, Student's t has far longer tails, and
nominal levels carried over to it gave an error of 5.3 to 5.5 % instead of 5 % of simulated studies (6.1 % with a look
after each seed: `benchmarks/simulation.py`). The joint distribution of a study's t statistics does not depend on the
variance, so the boundaries are quantiles of `PATHS` simulated studies under the null hypothesis.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import stats

FEWEST, FIRST = 12, 5
"""Smallest allowed maximum number of seeds, and the number of seeds at the first look."""
PATHS = 2_000_000
"""Simulated studies without a difference; the same ones each time."""


def looks(most: int) -> tuple[int, ...]:
    """Return the numbers of seeds after which to look, each half as large again: 5, 8, 12, 18, … up to `most`."""
    found, step = [], FIRST
    while step < most:
        found.append(step)
        step += max(3, step // 2)
    return (*found, most)


def spent(share: float, error: float) -> float:
    """Return the error spent once `share` of all seeds is there: Lan and DeMets' Pocock-type spending function."""
    return error * math.log(1 + (math.e - 1) * min(1.0, share))


@lru_cache
def levels(plan: tuple[int, ...], error: float) -> tuple[float, ...]:
    """Return the nominal confidence of Student's interval at each look, for an overall error rate of `error`.

    `plan`: number of pairs at each look, at least 2, increasing.
    """
    statistics = _null_paths(plan)
    alive, found = np.ones(statistics.shape[1], dtype=bool), []
    for n, observed in zip(plan, statistics, strict=True):
        leave = round(spent(n / plan[-1], error) * PATHS) - int((~alive).sum())
        staying = observed[alive]
        place = len(staying) - leave
        critical = np.partition(staying, place)[place] if leave else math.inf
        alive &= observed < critical
        found.append(1 - 2 * float(stats.t.sf(critical, n - 1)))
    return tuple(found)


def _null_paths(plan: tuple[int, ...]) -> np.ndarray:
    """Simulate |t| of studies without a difference: (looks, PATHS).

    A look adds m normal values: their sum is normal, their squares about their own mean are chi-squared.
    """
    random = np.random.default_rng(0)
    found, total, squares, before = [], np.zeros(PATHS), np.zeros(PATHS), 0
    for n in plan:
        m = n - before
        new = math.sqrt(m) * random.standard_normal(PATHS)
        squares += new**2 / m + (random.chisquare(m - 1, PATHS) if m > 1 else 0.0)
        total += new
        variance = (squares - total**2 / n) / (n - 1)
        found.append(np.abs(total) / np.sqrt(n * variance))
        before = n
    return np.stack(found)

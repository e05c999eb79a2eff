"""Looking at the results before all seeds are there, without being fooled more often than one look would be.

The rule is fixed beforehand: after which numbers of seeds to look, and how much of the allowed error each look may
spend. Lan and DeMets (1983), "Discrete sequential boundaries for clinical trials": the boundary of each look follows
from the spending function. The repeated confidence intervals (Jennison and Turnbull 1989, "Interim analyses: the
repeated confidence interval approach") hold at every look at once, and so at whichever one the training stopped.

Tables of boundaries are made for Gaussian means of known variance; with five pairs, Student's t has far longer tails,
and nominal levels carried over to it erred in 5.3 to 5.5 % instead of 5 % of simulated studies (6.1 % with a look after
each seed: `benchmarks/simulation.py`). The distribution of all t's of one study does not depend on its variance, so the
boundaries are read off `PATHS` simulated studies in which nothing differs.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import stats

FEWEST, FIRST = 12, 5
"""The least maximum of seeds, and the seeds before the first look."""
PATHS = 2_000_000
"""Simulated studies without a difference; the same ones each time."""


def looks(most: int) -> tuple[int, ...]:
    """Numbers of seeds after which to look, `most` the last: 5, 8, 12, 18, each half as much again."""
    found, step = [], FIRST
    while step < most:
        found.append(step)
        step += max(3, step // 2)
    return (*found, most)


def spent(share: float, error: float) -> float:
    """Error allowed by the time that `share` of all seeds is there: Lan and DeMets' spending after Pocock."""
    return error * math.log(1 + (math.e - 1) * min(1.0, share))


@lru_cache
def levels(plan: tuple[int, ...], error: float) -> tuple[float, ...]:
    """The nominal confidence of Student's interval at each look, so that all of them together err with `error`.

    `plan`: pairs at each look, rising from 2 at least.
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
    """|t| of studies without a difference: (looks, PATHS).

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

"""Group-sequential analysis: interim looks at the results with a controlled overall error rate.

The rule is fixed beforehand: the numbers of seeds after which to look, and the share of the error that each look may
spend. Lan and DeMets (1983), "Discrete sequential boundaries for clinical trials": the boundary of each look follows
from the spending function. The repeated confidence intervals (Jennison and Turnbull 1989, "Interim analyses: the
repeated confidence interval approach") hold at all looks simultaneously, and so at whichever one the training stopped.

Published boundaries assume Gaussian means of known variance; with five pairs, Student's t has far longer tails, and
nominal levels carried over to it gave an error of 5.3 to 5.5 % instead of 5 % of simulated studies (6.1 % with a look
after each seed: `benchmarks/simulation.py`). The joint distribution of a study's t statistics does not depend on the
variance, so the boundaries are quantiles of `PATHS` simulated studies under the null hypothesis.

With several differences the intervals are moderated (`results.stats.moderated`): `moderated_boundaries` simulates the
critical value of each look for all differences together, in the worst of the same class of worlds. A difference that
was settled early keeps the seeds of its look, in its own interval and in the mean of the variances of later looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from cifar_lab.results.stats.moderated import (
    Family,
    ModeratedInterval,
    critical_value,
    moderated_intervals,
    moderated_variances,
)
from cifar_lab.results.stats.paired import Values
from cifar_lab.results.stats.worlds import CLASS, FAMILIES, NullWorld

FEWEST, FIRST = 12, 5
"""Smallest allowed maximum number of seeds, and the number of seeds at the first look."""
PATHS = 2_000_000
"""Simulated studies without a difference; the same ones each time."""
NUMBERS, MOST_STUDIES, FEWEST_STUDIES = 16_000_000, 200_000, 40_000
"""Numbers drawn for each world behind moderated boundaries, and the limits of the studies that they make."""


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


@lru_cache
def moderated_boundaries(plan: tuple[int, ...], comparisons: int, family: Family, error: float) -> tuple[float, ...]:
    """Return the critical value of the moderated intervals at each look: half their width in standard errors.

    In the worst world of the class, the probability that an interval of any look excludes a true difference of 0 is
    `error`; after each look it is at most what `spent` allows. The same studies are drawn each time.

    Args:
        plan: number of pairs at each look, at least 2, increasing.
        comparisons: k ≥ 2 differences.
        family: how the differences hang together.
        error: probability of any wrong verdict over all looks and differences.
    """
    kinds = [family] if family == "control" else list(FAMILIES)
    values = [_boundaries(plan, comparisons, kind, world, error) for kind in kinds for world in CLASS]
    return tuple(float(value) for value in np.max(values, axis=0))


def _boundaries(plan: tuple[int, ...], comparisons: int, kind: str, world: NullWorld, error: float) -> list[float]:
    """Return the critical value of each look in one world."""
    count = FAMILIES[kind][0](comparisons) * plan[-1]
    studies = max(FEWEST_STUDIES, min(MOST_STUDIES, NUMBERS // count))
    random = np.random.default_rng([PATHS, CLASS.index(world), list(FAMILIES).index(kind), comparisons, *plan])
    block = max(1000, NUMBERS // (8 * count))
    parts = [
        moderated_paths(plan, comparisons, kind, world, min(block, studies - start), random)
        for start in range(0, studies, block)
    ]
    statistics = np.concatenate(parts, axis=1)
    alive, values = np.ones(studies, dtype=bool), []
    for n, observed in zip(plan, statistics, strict=True):
        leave = round(spent(n / plan[-1], error) * studies) - int((~alive).sum())
        staying = observed[alive]
        critical = float(np.partition(staying, len(staying) - leave)[len(staying) - leave]) if leave > 0 else math.inf
        alive &= observed < critical
        values.append(critical)
    return values


def moderated_paths(
    plan: tuple[int, ...], comparisons: int, kind: str, world: NullWorld, studies: int, random: np.random.Generator
) -> np.ndarray:
    """Simulate max_j |Δ_j| √n / s̃_j of studies without a difference, at each look: (looks, studies)."""
    arms, pick = FAMILIES[kind][0](comparisons), FAMILIES[kind][1]
    differences = pick(world.draw(studies, arms, plan[-1], random))
    rows = []
    for n in plan:
        now = differences[..., :n]
        moderated = moderated_variances(now.var(axis=-1, ddof=1), n - 1)
        rows.append(np.sqrt(n * now.mean(axis=-1) ** 2 / moderated).max(axis=1))
    return np.stack(rows)


def last_look_widening(looks: Sequence[int], critical: Sequence[float], comparisons: int, family: Family) -> float:
    """Return how much wider the moderated intervals of a rule's last look are than those of so many seeds at once."""
    return critical[-1] / critical_value(comparisons, looks[-1], family)


def other_critical(
    rule: Sequence[tuple[int, float]], own: tuple[int, Family], other: tuple[int, Family], error: float
) -> dict[int, float]:
    """Return the critical values of a rule's looks for other differences of its study, by the number of seeds.

    Args:
        rule: number of seeds and critical value of each look.
        own: number of the rule's differences, and how they hang together.
        other: the same of the other differences: claims of one question, or the effects of a 2 × 2 study.
        error: probability of any wrong verdict over all looks and differences.

    Returns:
        The rule's own values, which hold for no more differences that hang together no worse. Empty where they do not,
        or where Student's interval at Šidák's level would have a smaller critical value at any look.
    """
    (count, family), (k, kind) = own, other
    if not 2 <= k <= count or family not in ("any", kind):
        return {}
    nominal = levels(tuple(n for n, _ in rule), 1 - (1 - error) ** (1 / k))
    is_narrower = all(
        value <= float(stats.t.isf((1 - level) / 2, n - 1)) for (n, value), level in zip(rule, nominal, strict=True)
    )
    return dict(rule) if is_narrower else {}


def moderated_at_looks(
    differences: Mapping[str, Values], seen: Mapping[str, int], critical: Mapping[int, float], family: Family
) -> dict[str, ModeratedInterval]:
    """Return the moderated interval of each difference at its own last look.

    Args:
        differences: by name, the paired differences by seed, from 0 up.
        seen: by name, the number of seeds at the difference's last complete look; 0 for none.
        critical: the critical value of each look, by its number of seeds.
        family: how the differences hang together.

    Returns:
        An entry for each difference that has taken a look; none where fewer than two differences vary there.

    For the interval of a difference, all others are truncated to the seeds of its look. Where seeds diverged, so that a
    look has fewer pairs than seeds, its value grows as c(k, n) does from so many seeds to so many pairs.
    """
    made = {}
    for name, seeds in seen.items():
        planned = {other: min(seeds, n) for other, n in seen.items() if n}
        pairs = {
            other: [value for seed, value in differences[other].items() if seed < n] for other, n in planned.items()
        }
        wider = max((_widening(len(pairs[other]), n, len(seen), family) for other, n in planned.items()), default=1.0)
        if seeds and (own := moderated_intervals(pairs, family, wider * critical[seeds]).get(name)) is not None:
            made[name] = own
    return made


def _widening(pairs: int, seeds: int, comparisons: int, family: Family) -> float:
    """Return how much wider intervals of so many pairs are than those of so many seeds; 1 below two pairs."""
    if pairs < 2 or comparisons < 2:
        return 1.0
    return critical_value(comparisons, pairs, family) / critical_value(comparisons, seeds, family)

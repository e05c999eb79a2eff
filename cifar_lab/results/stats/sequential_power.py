"""Simulated stopping rules: the verdict on each difference, its number of seeds, and the chance of each verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from cifar_lab.results.stats.decision import Verdict
from cifar_lab.results.stats.moderated import Family, moderated_variances
from cifar_lab.results.stats.paired import student
from cifar_lab.results.stats.worlds import FAMILIES, NullWorld

VERDICTS: tuple[Verdict, ...] = ("undecided", "better", "worse", "equivalent")
"""Verdicts by their number in the array of `decide_at_looks`."""
UNDECIDED, BETTER, WORSE, EQUIVALENT = range(4)
STUDIES = 20_000
"""Simulated studies behind the chances of a rule: the standard error of a share is 0.35 points at most."""


@dataclass(frozen=True, kw_only=True)
class LookDesign:
    """Looks of a stopping rule, with the half widths of its intervals."""

    looks: tuple[int, ...]
    """Number of pairs at each look."""
    levels: tuple[float, ...] = ()
    """Confidence of Student's interval at each look; not used where there are critical values."""
    critical: tuple[float, ...] = ()
    """Critical value of the moderated intervals at each look; empty for Student's intervals."""


@dataclass(frozen=True, kw_only=True)
class RuleChances:
    """Chance of each verdict on one variant under a stopping rule, and the expected number of seeds."""

    difference: float
    """True difference of the variant, as a fraction; the others do not differ."""
    better: float
    worse: float
    equivalent: float
    undecided: float
    seeds: float
    """Expected number of seeds of the variant."""
    cells: float
    """Expected number of cells of the whole study."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def decide_at_looks(differences: np.ndarray, design: LookDesign, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Apply a stopping rule to simulated studies: a difference that is decided gets no more seeds.

    Args:
        differences: paired differences (studies, k, seeds), with as many seeds as the last look.
        design: the looks and their intervals.
        margin: difference that does not matter, in the unit of the differences.

    Returns:
        Verdicts, as numbers of `VERDICTS`, and numbers of seeds: (studies, k) each. Verdicts are those of
        `results.stats.decision.decide_verdict`.
    """
    return decide_by_moments(*moments_at_looks(differences, design.looks), design, margin)


def moments_at_looks(differences: np.ndarray, looks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return means and sample variances of the first seeds at each look: (looks, studies, k) each."""
    firsts = [differences[..., :n] for n in looks]
    return np.stack([each.mean(axis=-1) for each in firsts]), np.stack([each.var(axis=-1, ddof=1) for each in firsts])


def decide_by_moments(
    means: np.ndarray, variances: np.ndarray, design: LookDesign, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a stopping rule as `decide_at_looks` does, given the `moments_at_looks` of the differences."""
    verdicts = np.full(means.shape[1:], UNDECIDED)
    pairs, frozen = np.full(means.shape[1:], design.looks[0]), np.zeros(means.shape[1:])
    for look, (n, mean, own) in enumerate(zip(design.looks, means, variances, strict=True)):
        open_ = verdicts == UNDECIDED
        pairs[open_] = n
        frozen[open_] = own[open_]  # the variance of a settled difference stays that of its last look
        if design.critical:
            half = design.critical[look] * np.sqrt(moderated_variances(frozen, pairs - 1.0) / n)
        else:
            half = student(0.0, 1.0, n, design.levels[look])[1] * np.sqrt(own)
        said = np.select(
            [(-margin <= mean - half) & (mean + half <= margin), mean > half, mean < -half],
            [EQUIVALENT, BETTER, WORSE],
            UNDECIDED,
        )
        verdicts[open_] = said[open_]
    return verdicts, pairs


@lru_cache(maxsize=64)
def rule_chances(
    design: LookDesign, comparisons: int, family: Family, difference: float, deviation: float, margin: float
) -> RuleChances:
    """Simulate studies in which one variant differs by `difference` and the others do not.

    Args:
        design: the looks and their intervals.
        comparisons: number of differences, at least 1.
        family: how they hang together; `any` is simulated as a chain.
        difference: true difference of the last variant, as a fraction.
        deviation: true deviation of every paired difference, > 0.
        margin: difference that does not matter.

    The same studies are drawn each time, with normal accuracies and equal deviations.
    """
    arms, pick = FAMILIES["control" if family == "control" else "chain"]
    world = NullWorld(deviations="equal", correlation=0.0)
    most, random = design.looks[-1], np.random.default_rng([STUDIES, comparisons, design.looks[-1]])
    block = max(500, min(STUDIES, 8_000_000 // (arms(comparisons) * most)))
    verdicts, seeds = [], []
    for start in range(0, STUDIES, block):
        drawn = pick(world.draw(min(block, STUDIES - start), arms(comparisons), most, random)).astype(float)
        drawn *= deviation / math.sqrt(2)
        drawn[:, -1] += difference
        decided, taken = decide_at_looks(drawn, design, margin)
        verdicts.append(decided[:, -1])
        seeds.append(taken)
    shares = np.bincount(np.concatenate(verdicts), minlength=len(VERDICTS)) / STUDIES
    by_variant = np.concatenate(seeds)
    return RuleChances(
        difference=difference,
        seeds=float(by_variant[:, -1].mean()),
        cells=float((by_variant.sum(axis=1) + by_variant.max(axis=1)).mean()),
        **dict(zip(VERDICTS, shares.tolist(), strict=True)),
    )


def expected_differences(margin: float) -> Sequence[float]:
    """Return the true differences for which a rule's chances are shown: none, the margin, twice and four times it."""
    return 0.0, margin, 2 * margin, 4 * margin

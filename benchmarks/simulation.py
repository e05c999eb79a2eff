"""Estimate coverage and error rates of the intervals in simulated studies, with the product's own functions.

    python benchmarks/simulation.py --studies 100000      # markdown on standard output, a few minutes on one core

Studies are drawn in blocks; levels, critical values, boundaries, predicted power, verdicts: `results.stats`.
Only means and deviations of a block are computed here, and first checked against `paired_difference`, study by study.
(This file is not called `statistics`: that name would hide Python's module for every script here that imports mlflow.)
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy
from markdown_table import table

from cifar_lab.ablation import registry
from cifar_lab.results.claim_families import ClaimFamily, claim_families
from cifar_lab.results.stats.decision import decide_verdict
from cifar_lab.results.stats.group_sequential import levels, looks, moderated_boundaries
from cifar_lab.results.stats.moderated import Family, critical_value, moderated_variances
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.results.stats.paired import paired_difference, student
from cifar_lab.results.stats.power import power
from cifar_lab.results.stats.sequential_power import BETTER, EQUIVALENT, UNDECIDED, WORSE, LookDesign, decide_at_looks

SEEDS, VARIANTS, CORRELATIONS = (3, 5, 10, 20), (1, 2, 4, 7), (0.0, 0.5)
NOISES = {"equal": (1.0, 1.0), "noisy control": (3.0, 1.0), "noisy variant": (1.0, 3.0)}
"""Standard deviations of the control and of the first variant; every other variant has 1."""
EFFECTS = (0.0, 0.5, 2.0, 5.0)
"""True differences, in standard deviations of a paired difference."""
FAR = 3.0
"""Margin, in the same unit, for testing `equivalent`: wide enough to be reached with three seeds."""
BLOCK = 10_000
_SEED = 20261123  # not the one that the product draws its boundaries with
Measure = Callable[[int, np.random.Generator], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class World:
    """Model of studies: normal accuracies; seeds that variants share give `correlation` between any two."""

    seeds: int
    variants: int = 1
    noise: str = "equal"
    correlation: float = 0.0

    def deviations(self) -> np.ndarray:
        """Return the standard deviations of control and variants, (variants + 1,)."""
        return np.array([*NOISES[self.noise], *[1.0] * (self.variants - 1)])

    def units(self) -> np.ndarray:
        """Return the standard deviations of the paired differences, (variants,)."""
        control, theirs = self.deviations()[0], self.deviations()[1:]
        return np.sqrt(control**2 + theirs**2 - 2 * self.correlation * control * theirs)

    def draw(self, studies: int, random: np.random.Generator) -> np.ndarray:
        """Draw accuracies without true differences: (studies, variants + 1, seeds), the control first."""
        shared = math.sqrt(self.correlation) * random.standard_normal((studies, 1, self.seeds))
        own = random.standard_normal((studies, self.variants + 1, self.seeds))
        return self.deviations()[:, None] * (shared + math.sqrt(1 - self.correlation) * own)


def differences(accuracies: np.ndarray) -> np.ndarray:
    """Return the differences of each variant from the control by seed: (studies, variants, seeds)."""
    return accuracies[:, 1:] - accuracies[:, :1]


def intervals(paired: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends over the last axis, by the critical value of the product's `student`."""
    half = student(0.0, 1.0, paired.shape[-1], level)[1] * paired.std(axis=-1, ddof=1)
    middle = paired.mean(axis=-1)
    return middle - half, middle + half


def verdicts(low: np.ndarray, high: np.ndarray, margin: float) -> np.ndarray:
    """Return the verdict of the product's `decide_verdict` on each interval, in the same shape."""
    ends = zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)
    return np.array([decide_verdict(pair, margin) for pair in ends]).reshape(low.shape)


def averaged(measure: Measure, studies: int, *key: int) -> np.ndarray:
    """Return the shares measured in blocks of studies, averaged over all. `key`: selects the random numbers."""
    random = np.random.default_rng([_SEED, *key])
    blocks = [min(BLOCK, studies - start) for start in range(0, studies, BLOCK)]
    return np.average([measure(block, random) for block in blocks], axis=0, weights=blocks)


def monte_carlo(share: float, studies: int) -> float:
    """Return three standard errors of a share of so many studies."""
    return 3 * math.sqrt(share * (1 - share) / studies)


def check(world: World, studies: int = 50) -> None:
    """Raise AssertionError unless the product's function, study by study, gives the intervals of a block."""
    level = per_comparison(CONFIDENCE, world.variants)
    accuracies = world.draw(studies, np.random.default_rng(_SEED))
    low, high = intervals(differences(accuracies), level)
    for study, variant in itertools.product(range(studies), range(world.variants)):
        control, own = (dict(enumerate(accuracies[study, row].tolist())) for row in (0, variant + 1))
        found = paired_difference(own, control, level=level).interval
        np.testing.assert_allclose((low[study, variant], high[study, variant]), found or (), rtol=0, atol=1e-12)


class Coverage(NamedTuple):
    """Shares of intervals, and of studies, without a difference."""

    each: float  # intervals that contain the true value
    together: float  # studies in which all intervals do
    fooled: float  # studies that call any variant better or worse
    equated: float  # studies that call any variant equivalent, while each truly differs by the margin


def coverage(world: World, studies: int) -> Coverage:
    """Estimate the coverage of a table's intervals, one by one and jointly, and the error rates of `decide_verdict`."""
    level, margins = per_comparison(CONFIDENCE, world.variants), FAR * world.units()

    def measure(block: int, random: np.random.Generator) -> list[float]:
        low, high = intervals(differences(world.draw(block, random)), level)
        holds = (low <= 0) & (high >= 0)
        fooled = np.isin(verdicts(low, high, 0.0), ["better", "worse"])
        equated = verdicts(low / margins + 1, high / margins + 1, 1.0) == "equivalent"
        return [holds.mean(), holds.all(1).mean(), fooled.any(1).mean(), equated.any(1).mean()]

    key = (1, world.seeds, world.variants, list(NOISES).index(world.noise), int(10 * world.correlation))
    return Coverage(*averaged(measure, studies, *key))


SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "outliers": lambda random, shape: random.standard_t(3, shape),
    "skewed": lambda random, shape: random.exponential(1.0, shape) - 1,
}
"""Distributions of a paired difference, all of mean 0: outliers, Student's with 3 degrees; skewed, exponential."""


def coverage_of_shape(shape: str, seeds: int, level: float, studies: int) -> float:
    """Estimate the coverage of the interval of one difference if differences are not normal."""

    def measure(block: int, random: np.random.Generator) -> list[float]:
        low, high = intervals(SHAPES[shape](random, (block, seeds)), level)
        return [((low <= 0) & (high >= 0)).mean()]

    return float(averaged(measure, studies, 2, seeds, list(SHAPES).index(shape), round(1e4 * level))[0])


class Power(NamedTuple):
    """Shares of intervals that exclude 0: predicted by the product, and observed."""

    predicted: float
    measured: float


def power_of(seeds: int, variants: int, effect: float, studies: int) -> Power:
    """Simulate the power; `effect`: true difference of each variant, in deviations of a paired difference."""
    world, level = World(seeds=seeds, variants=variants, correlation=0.5), per_comparison(CONFIDENCE, variants)
    shift = effect * world.units()[:, None]

    def measure(block: int, random: np.random.Generator) -> list[float]:
        said = verdicts(*intervals(differences(world.draw(block, random)) + shift, level), 0.0)
        return [np.isin(said[:, 0], ["better", "worse"]).mean()]

    measured = averaged(measure, studies, 3, seeds, variants, int(10 * effect))[0]
    return Power(predicted=power(seeds, effect, 1.0, level), measured=float(measured))


def question_error(family: ClaimFamily, world: World, studies: int) -> float:
    """Estimate the share of studies without a difference in which any claim of one question is decided by direction.

    The variants of the question are drawn as the arms of `world`; the first one that a claim names is its control. The
    intervals are those of a moderated study: moderated where the question has two differences or more, else Student's.
    """
    names = sorted({name for pair in family.pairs for name in pair})
    world, k = replace(world, variants=max(1, len(names) - 1)), len(family.pairs)
    first, second = ([names.index(pair[side]) for pair in family.pairs] for side in (0, 1))

    def measure(block: int, random: np.random.Generator) -> list[float]:
        arms = world.draw(block, random)
        paired = arms[:, first] - arms[:, second]
        if k == 1:
            low, high = intervals(paired, family.level)
        else:
            low, high = moderated(paired, family.kind)
        return [((low > 0) | (high < 0)).any(1).mean()]

    key = (5, world.seeds, k, list(NOISES).index(world.noise), int(10 * world.correlation))
    return float(averaged(measure, studies, *key)[0])


def moderated(paired: np.ndarray, kind: Family) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends of the moderated intervals of differences (studies, k, seeds)."""
    k, n = paired.shape[1:]
    spread = np.sqrt(moderated_variances(paired.var(axis=-1, ddof=1), n - 1) / n)
    half, middle = critical_value(k, n, kind) * spread, paired.mean(axis=-1)
    return middle - half, middle + half


def check_question(family: ClaimFamily, studies: int = 20) -> None:
    """Check that the product's function, study by study, gives the moderated intervals that are computed in blocks.

    Raises:
        AssertionError: it does not.
    """
    names = sorted({name for pair in family.pairs for name in pair})
    arms = World(seeds=3, variants=len(names) - 1).draw(studies, np.random.default_rng(_SEED))
    first, second = ([names.index(pair[side]) for pair in family.pairs] for side in (0, 1))
    low, high = moderated(arms[:, first] - arms[:, second], family.kind)
    for study in range(studies):
        values = {name: dict(enumerate(arms[study, i].tolist())) for i, name in enumerate(names)}
        made = family.moderated(values)
        for i, pair in enumerate(family.pairs):
            np.testing.assert_allclose((low[study, i], high[study, i]), made[pair], rtol=0, atol=1e-9)


def questions() -> list[tuple[str, ClaimFamily]]:
    """Return the families of the built-in claims, with the name of their ablation."""
    return [
        (ablation.name, family)
        for ablation in registry.discover()
        for family in claim_families(ablation).values()
    ]  # fmt: skip


class Sequential(NamedTuple):
    """Properties of a sequential design."""

    wrong: float  # studies with a false verdict: better, worse, or equivalent although it differs by the margin
    undecided: float  # variants that are undecided at the last look
    saved: float  # cells that were not trained, of all seeds of control and variants


DESIGNS: dict[str, Callable[[tuple[int, ...], int], LookDesign]] = {
    "of one look": lambda plan, k: LookDesign(looks=plan, levels=(per_comparison(CONFIDENCE, k),) * len(plan)),
    "of textbooks": lambda plan, k: LookDesign(looks=plan, levels=levels(tuple(1000 * n for n in plan), error_of(k))),
    "of the product": lambda plan, k: product_design(plan, k, "control"),
}
"""Designs by plan and comparisons. Textbook levels: for Gaussian means of known variance, as with many seeds."""


def error_of(comparisons: int) -> float:
    """Return the error of each of so many comparisons that share 5 % (Šidák)."""
    return 1 - per_comparison(CONFIDENCE, comparisons)


def product_design(plan: tuple[int, ...], comparisons: int, family: Family) -> LookDesign:
    """Return the design of a rule that starts now: Student's levels for one comparison, else moderated boundaries."""
    if comparisons == 1:
        return LookDesign(looks=plan, levels=levels(plan, error_of(1)))
    return LookDesign(looks=plan, critical=moderated_boundaries(plan, comparisons, family, 1 - CONFIDENCE))


def is_wrong(decided: np.ndarray, truth: np.ndarray, margin: float) -> np.ndarray:
    """Tell for each verdict whether it is false: in its direction, or equivalent although it differs by the margin."""
    false = (decided == BETTER) & (truth <= 0) | (decided == WORSE) & (truth >= 0)
    return false | (decided == EQUIVALENT) & (np.abs(truth) >= margin)


def sequential(
    plan: tuple[int, ...], effects: Sequence[float], margin: float, studies: int, design: str = "of the product"
) -> Sequential:
    """Simulate studies with looks after `plan` seeds: decided variants get no more, nor does the control at the end.

    `effects`, `margin`: in deviations of a paired difference.
    """
    most, world = plan[-1], World(seeds=plan[-1], variants=len(effects), correlation=0.5)
    truth, rule = np.array(effects), DESIGNS[design](plan, len(effects))

    def measure(block: int, random: np.random.Generator) -> list[float]:
        paired = differences(world.draw(block, random)) / world.units()[:, None] + truth[:, None]
        decided, trained = decide_at_looks(paired, rule, margin)
        cells = trained.sum(1) + trained.max(1)
        wrong = is_wrong(decided, truth, margin).any(1).mean()
        return [wrong, (decided == UNDECIDED).mean(), 1 - cells.mean() / (most * (len(effects) + 1))]

    return Sequential(*averaged(measure, studies, 4, most, len(effects), round(10 * margin)))


def coverage_table(studies: int) -> Iterable[str]:
    equated = [0.0]

    def row(noise: str, correlation: float, seeds: int) -> list[object]:
        worlds = [World(seeds=seeds, variants=k, noise=noise, correlation=correlation) for k in VARIANTS]
        found = [coverage(world, studies) for world in worlds]
        equated.extend(one.equated for one in found)
        each, fooled = ", ".join(percent(one.each) for one in found), max(one.fooled for one in found)
        return [noise, correlation, seeds, each, *(percent(one.together) for one in found), percent(fooled)]

    heading = ("noise", "correlation", "n", "each, k = 1, 2, 4, 7", "together, k = 1", "2", "4", "7", "false, at most")
    yield from table(heading, itertools.starmap(row, itertools.product(NOISES, CORRELATIONS, SEEDS)))
    yield f"\nFalse equivalent, every variant off by the margin of {FAR:g} deviations: at most {percent(max(equated))}."


def shape_table(studies: int) -> Iterable[str]:
    def row(shape: str, k: int) -> list[object]:
        level = per_comparison(CONFIDENCE, k)
        return [shape, percent(level), *(percent(coverage_of_shape(shape, n, level, studies)) for n in SEEDS)]

    cases = itertools.starmap(row, itertools.product(SHAPES, (1, 7)))
    return table(("differences", "level", *(f"n = {n}" for n in SEEDS)), cases)


def power_table(studies: int) -> Iterable[str]:
    def row(effect: float, k: int) -> list[object]:
        return [f"{effect:g}", k, *(", ".join(map(percent, power_of(n, k, effect, studies))) for n in SEEDS)]

    cases = itertools.starmap(row, itertools.product((0.5, 1.0, 2.0), (1, 4)))
    return table(("difference, deviations", "k", *(f"n = {n}: predicted, measured" for n in SEEDS)), cases)


def sequential_table(studies: int) -> Iterable[str]:
    def row(most: int, effects: tuple[float, ...], margin: float) -> list[object]:
        shares = map(percent, sequential(looks(most), effects, margin, studies))
        return [most, ", ".join(f"{effect:g}" for effect in effects), f"{margin:g}" if margin else "none", *shares]

    designs = [*((effect,) for effect in EFFECTS), (0.0,) * 4, EFFECTS]
    cases = itertools.starmap(row, itertools.product((12, 20), designs, (0.0, 1.0)))
    return table(("K", "differences, deviations", "margin", "wrong", "undecided at K", "cells saved"), cases)


def questions_table(studies: int) -> Iterable[str]:
    alike: dict[tuple[int, str], list[tuple[str, ClaimFamily]]] = {}
    for name, family in questions():
        alike.setdefault((len(family.pairs), family.kind), []).append((name, family))

    def row(shape: tuple[int, str]) -> list[object]:
        names, family = ", ".join(dict.fromkeys(name for name, _ in alike[shape])), alike[shape][0][1]
        worst = (
            max(
                question_error(family, World(seeds=seeds, noise=noise, correlation=correlation), studies)
                for noise, correlation in itertools.product(NOISES, CORRELATIONS)
            )
            for seeds in SEEDS
        )
        return [*shape, names, *map(percent, worst)]

    heading = ("differences of a question", "kind", "ablations", *(f"n = {n}: false, at most" for n in SEEDS))
    return table(heading, map(row, sorted(alike)))


def boundaries_table(studies: int) -> Iterable[str]:
    def row(design: str) -> list[object]:
        wrong = (sequential(plan, (0.0,), 0.0, studies, design).wrong for plan in plans)
        return [f"levels {design}", *map(percent, wrong)]

    plans = [looks(12), looks(20), looks(40), tuple(range(2, 13))]
    return table(("looks after", *(", ".join(map(str, plan)) for plan in plans)), map(row, DESIGNS))


TABLES = {
    "Coverage, and verdicts that are false": coverage_table,
    "Coverage of one interval where differences are not normal": shape_table,
    "Claims: a question without a difference that is decided falsely": questions_table,
    "Power": power_table,
    "Stopping early": sequential_table,
    "Wrong where nothing differs, by where the levels come from": boundaries_table,
}


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000, help="simulated studies behind each number")
    parser.add_argument("--only", metavar="WORDS", default="", help="only the tables whose title has these words")
    options = parser.parse_args()
    studies, begun = options.studies, time.perf_counter()
    chosen = {title: lines for title, lines in TABLES.items() if options.only.lower() in title.lower()}
    if not chosen:
        parser.error(f"--only '{options.only}': no title has it; there are {', '.join(TABLES)}")
    for noise, correlation in itertools.product(NOISES, CORRELATIONS):
        check(World(seeds=5, variants=4, noise=noise, correlation=correlation))
    off = percent(monte_carlo(CONFIDENCE, studies))
    print(f"{studies:,} simulated studies a number, all in %; three standard errors of 95 %: {off}")
    for title, lines in chosen.items():
        print(f"\n## {title}\n")
        for line in lines(studies):
            print(line, flush=True)
    versions = f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"\n{versions}; {time.perf_counter() - begun:,.0f} s on {platform.machine()}")


if __name__ == "__main__":
    main()

"""Compare designs of simultaneous intervals by simulated coverage and width: which one should decide?

    python benchmarks/interval_designs.py [--studies 100000] [--variants 4 | --effects]

Designs, for k variants, one control and n seeds:

- Student: paired, each difference with its own variance, at Šidák's level.
- Welch: unpaired, at Šidák's level.
- Dunnett: unpaired, the variances of all arms shrunk towards their mean; calibrated in the same class of worlds.
- moderated: paired, the variances of all differences shrunk towards their mean (`cifar_lab.results.stats.moderated`).

Coverage is the share of studies in which all k intervals hold. Width is the mean half width in deviations of one cell.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from markdown_table import table
from scipy import stats

from cifar_lab.results.stats.moderated import critical_value, moderated_variances
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.results.stats.worlds import CLASS, NullWorld

SEEDS = (2, 3, 5, 10)
OUTSIDE = (
    *(NullWorld(deviations=deviations, correlation=0.0) for deviations in ("first × 5", "second × 5", "log-normal 1")),
    *(NullWorld(deviations="equal", correlation=0.0, shape=shape) for shape in ("t3", "exponential", "binomial")),
)
"""Worlds outside the class: five times the deviation, outliers, a skew, accuracies on 1,000 images that go in steps."""
Half = Callable[[np.ndarray, float], np.ndarray]
"""Half widths (studies, k) of arms (studies, k + 1, n), given a critical value where the design is calibrated."""
Draw = Callable[[NullWorld, int, int, int], np.ndarray]
"""Arms of studies in a world, given k, n and the number of studies."""


def student(arms: np.ndarray, _: float) -> np.ndarray:
    differences = arms[:, 1:] - arms[:, :1]
    k, n = differences.shape[1:]
    level = per_comparison(CONFIDENCE, k)
    return stats.t.ppf((1 + level) / 2, n - 1) * differences.std(axis=-1, ddof=1) / math.sqrt(n)


def welch(arms: np.ndarray, _: float) -> np.ndarray:
    n = arms.shape[-1]
    errors = arms.var(axis=-1, ddof=1) / n
    control, own = errors[:, :1], errors[:, 1:]
    degrees = (control + own) ** 2 / np.maximum((control**2 + own**2) / (n - 1), 1e-30)  # binomial values may all tie
    level = per_comparison(CONFIDENCE, own.shape[1])
    return stats.t.ppf((1 + level) / 2, degrees) * np.sqrt(control + own)


def dunnett(arms: np.ndarray, critical: float) -> np.ndarray:
    n = arms.shape[-1]
    shrunk = moderated_variances(arms.var(axis=-1, ddof=1), n - 1)
    return critical * np.sqrt((shrunk[:, :1] + shrunk[:, 1:]) / n)


def moderated(arms: np.ndarray, critical: float) -> np.ndarray:
    differences = arms[:, 1:] - arms[:, :1]
    n = differences.shape[-1]
    return critical * np.sqrt(moderated_variances(differences.var(axis=-1, ddof=1), n - 1) / n)


DESIGNS: dict[str, Half] = {"Student": student, "Welch": welch, "Dunnett": dunnett, "moderated": moderated}


def ratios(arms: np.ndarray, half: Half, critical: float) -> np.ndarray:
    """Return max_j |Δ_j| over its half width: (studies,); above 1 where an interval misses the truth, which is 0."""
    means = np.abs((arms[:, 1:] - arms[:, :1]).mean(axis=-1))
    return (means / np.maximum(half(arms, critical), 1e-12)).max(axis=1)


def arms_of(world: NullWorld, k: int, n: int, studies: int) -> np.ndarray:
    """Draw accuracies (studies, k + 1, n) around 0; those of `binomial` in deviations, of 1,000 images at 90 %."""
    random = np.random.default_rng([3, k, n])
    if world.shape == "binomial":
        steps = random.binomial(1000, 0.9, (studies, k + 1, n)) - 900
        return (steps / math.sqrt(1000 * 0.9 * 0.1)).astype(np.float32)
    return world.draw(studies, k + 1, n, random)


def effects_of(world: NullWorld, k: int, n: int, studies: int) -> np.ndarray:
    """Draw the main effects and half of the interaction of a 2 × 2 study: (studies, 4, n), after a control of zeros.

    The first of the four variants, which is the "control" of a world, has neither factor changed.
    """
    neither, first, second, both = np.moveaxis(arms_of(world, k, n, studies), 1, 0)
    alone, beside = first - neither, both - second
    main = [(alone + beside) / 2, ((second - neither) + (both - first)) / 2]
    return np.stack([np.zeros_like(neither), *main, (beside - alone) / 2], axis=1)


def rows(
    k: int, studies: int, drawn: Draw = arms_of, designs: Sequence[str] = tuple(DESIGNS)
) -> Iterator[list[object]]:
    """Yield the rows of the table: width and coverage of each design with each number of seeds."""
    for n in SEEDS:
        worlds = {world: drawn(world, k, n, studies) for world in (*CLASS, *OUTSIDE)}
        widths: dict[str, float] = {}
        for name in designs:
            half, critical = DESIGNS[name], critical_value(k, n) if name == "moderated" else 1.0
            if name == "Dunnett":
                critical = max(float(np.quantile(ratios(worlds[world], half, 1.0), CONFIDENCE)) for world in CLASS)
            holds = {world: float((ratios(arms, half, critical) <= 1).mean()) for world, arms in worlds.items()}
            widths[name] = float(half(worlds[CLASS[0]], critical).mean())
            shares = [min(holds[world] for world in CLASS), *(holds[world] for world in OUTSIDE)]
            relative = widths[name] / widths["Student"]
            yield [name, n, f"{widths[name]:.2f}", f"{relative:.2f}", *(f"{100 * share:.1f}" for share in shares)]


def main() -> None:
    """Print a table of coverage and width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--effects", action="store_true", help="the effects of a 2 × 2 study instead")
    options = parser.parse_args()
    what = "a 2 × 2 study" if options.effects else f"{options.variants} variants and a control"
    print(f"{options.studies:,} simulated studies a number, {what}; coverage in %\n")
    names = [world.deviations.replace("first", "control").replace("second", "variant") for world in OUTSIDE]
    names = [f"{a}, {world.shape}".removesuffix(", normal") for a, world in zip(names, OUTSIDE, strict=True)]
    heading = ("design", "n", "width", "× Student", "coverage, worst of the class", *names)
    lines = (
        rows(3, options.studies, effects_of, ("Student", "moderated"))
        if options.effects
        else rows(options.variants, options.studies)
    )
    for line in table(heading, lines):
        print(line, flush=True)


if __name__ == "__main__":
    main()

"""Calibrate the critical values of moderated intervals by simulation, in `results/stats/`.

    python benchmarks/critical_values.py [--studies 400000] [--processes 2]    # critical_values.json
    python benchmarks/critical_values.py --history [--studies 1000000]         # history_values.json

For k differences and n pairs, the value c(k, n) is the largest, over a class of worlds in which nothing differs, of
the 95 % quantile of max_j |Δ_j| √n / s̃_j. Then all k intervals Δ_j ± c s̃_j / √n hold together in 95 % of studies
in the worst of these worlds, and in more elsewhere in the class. Two families of comparisons are calibrated:
`control`, where all variants are compared with one control, and `any`, where pairs are disjoint or form a chain, too.

For a single comparison of n pairs with a variance prior from m earlier cells of the control, c(n, m) is the largest
95 % quantile of |Δ| √n / s̃ over these worlds, whether the control's seeds are among the earlier cells or not.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from cifar_lab.results.stats import history_prior
from cifar_lab.results.stats.history_prior import history_deviation
from cifar_lab.results.stats.moderated import TABLE, moderated_variances
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
from cifar_lab.results.stats.worlds import CLASS, FAMILIES, NullWorld

COMPARISONS = (2, 3, 4, 5, 7, 10, 15, 20, 30)
PAIRS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 50)
BLOCK = 8_000_000
"""Numbers drawn at a time."""
_SEED = 20261127


def statistics(differences: np.ndarray) -> np.ndarray:
    """Return max_j |Δ_j| √n / s̃_j of differences (studies, k, n), in which nothing differs: (studies,)."""
    n = differences.shape[-1]
    moderated = moderated_variances(differences.var(axis=-1, ddof=1), n - 1)
    return np.sqrt(n * differences.mean(axis=-1) ** 2 / moderated).max(axis=1)


def drawn(
    world: NullWorld, family: str, k: int, n: int, studies: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the statistics of `studies` studies in blocks."""
    arms, pick = FAMILIES[family][0](k), FAMILIES[family][1]
    block = max(1000, BLOCK // (arms * n))
    for start in range(0, studies, block):
        yield statistics(pick(world.draw(min(block, studies - start), arms, n, random)))


def critical_value(family: str, k: int, n: int, studies: int) -> float:
    """Return c(k, n) of one family: the largest 95 % quantile over `CLASS`."""
    random = np.random.default_rng([_SEED, list(FAMILIES).index(family), k, n])
    drawings = (np.concatenate(list(drawn(world, family, k, n, studies, random))) for world in CLASS)
    return max(float(np.quantile(each, CONFIDENCE)) for each in drawings)


def _values(task: tuple[int, int, int]) -> tuple[float, float]:
    """Return c(k, n) for `control`, and for `any`: the largest over all families."""
    k, n, studies = task
    fewer = max(50_000, min(studies, 30_000_000 // (k * n)))  # large k and n have short tails
    if n == 2:
        fewer = max(fewer, min(5 * studies, 1_000_000))  # the longest tail of all
    by_family = {family: critical_value(family, k, n, fewer) for family in FAMILIES}
    return by_family["control"], max(by_family.values())


def history_values(studies: int) -> dict[int, list[float]]:
    """Return c(n, m) of a single comparison, by the number of pairs n, for each number of earlier cells m."""
    counts = range(history_prior.FEWEST_CELLS, history_prior.MOST_CELLS + 1)
    largest = {n: [0.0] * len(counts) for n in range(2, history_prior.MOST_PAIRS + 1)}
    for world in CLASS:
        random = np.random.default_rng([_SEED, CLASS.index(world)])
        drawn = history_statistics(world, counts, list(largest), studies, random)
        for n, by_count in drawn.items():
            for i, either in enumerate(by_count):
                largest[n][i] = max(largest[n][i], *(float(np.quantile(each, CONFIDENCE)) for each in either))
        print(f"{world.deviations}, correlation {world.correlation}: {largest}", flush=True)
    return {n: [round(value, 3) for value in values] for n, values in largest.items()}


def history_statistics(
    world: NullWorld, counts: Sequence[int], pairs: Sequence[int], studies: int, random: np.random.Generator
) -> dict[int, list[tuple[np.ndarray, np.ndarray]]]:
    """Simulate |Δ| √n / s̃ of studies without a difference: by n, for each number of earlier cells.

    The first array of each pair has the control's compared seeds among the earlier cells, the second none of them.
    """
    made: dict[int, list[list[tuple[np.ndarray, np.ndarray]]]] = {n: [] for n in pairs}
    most, fresh = max(counts), max(pairs)
    for start in range(0, studies, BLOCK // (2 * (most + fresh))):
        block = min(BLOCK // (2 * (most + fresh)), studies - start)
        control, variant = world.draw(block, 2, most + fresh, random).astype(float).transpose(1, 0, 2)
        before = [control[:, :m].var(axis=1, ddof=1) for m in counts]
        for n in pairs:
            own = [(variant - control)[:, first : first + n] for first in (0, most)]
            made[n].append(
                [
                    tuple(abs(d.mean(axis=1)) * np.sqrt(n) / history_deviation(d, variance) for d in own)
                    for variance in before
                ]
            )
    return {
        n: [tuple(np.concatenate(each) for each in zip(*parts, strict=True)) for parts in zip(*blocks, strict=True)]
        for n, blocks in made.items()
    }


def calibrate_history(studies: int, output: Path) -> None:
    """Calibrate the values of a single comparison, and write them."""
    values = history_values(studies)
    counts = list(range(history_prior.FEWEST_CELLS, history_prior.MOST_CELLS + 1))
    rows = ",\n".join(f'  "{n}": {json.dumps(row)}' for n, row in values.items())
    output.write_text(f'{{\n "cells": {counts},\n "pairs": {{\n{rows}\n }},\n "studies": {studies}\n}}\n')


def main() -> None:
    """Calibrate the table and write it where the product reads it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400_000, help="simulated studies behind each quantile")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--history", action="store_true", help="values of a single comparison with earlier cells")
    parser.add_argument("-o", "--output", type=Path, help="default: where the product reads the table")
    options = parser.parse_args()
    if options.history:
        calibrate_history(options.studies, options.output or history_prior.HISTORY_TABLE)
        return
    grid = list(itertools.product(COMPARISONS, PAIRS))
    with ProcessPoolExecutor(options.processes) as pool:
        values = []
        for (k, n), pair in zip(grid, pool.map(_values, [(k, n, options.studies) for k, n in grid]), strict=True):
            values.append(pair)
            print(f"k = {k:2}, n = {n:2}: {pair[0]:.3f} to one control, {pair[1]:.3f} any", flush=True)
    table = np.array(values).reshape(len(COMPARISONS), len(PAIRS), 2).round(3)
    tree = {
        "comparisons": COMPARISONS, "pairs": PAIRS, "control": table[:, :, 0].tolist(), "any": table[:, :, 1].tolist(),
        "studies": options.studies,
    }  # fmt: skip
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items())
    (options.output or TABLE).write_text("{\n" + lines.replace("], [", "],\n  [") + "\n}\n")


if __name__ == "__main__":
    main()

"""Earlier cells of a control, whose variance is the prior of a setting's single comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cifar_lab.results.cell_results import read_cell_results
from cifar_lab.results.stats.history_prior import FEWEST_CELLS, MOST_CELLS
from cifar_lab.results.stats.paired import ALIKE
from cifar_lab.store.comparison_key import ComparisonKey
from cifar_lab.store.invocation import VariancePrior
from cifar_lab.store.invocation_index import read_index


def control_prior(key: ComparisonKey, recipe: str, metric: str, runs: Path) -> VariancePrior | None:
    """Return the variance of the finished cells of a control, whichever ablation asked for them.

    Args:
        key: of the setting. Cells count of invocations with the same baseline, scale, data and overrides.
        recipe: digest of the control's recipe (`CellRef.recipe`), which these cells have, too.
        metric: metric of the comparison.
        runs: the runs folder.

    Returns:
        The variance of the first `MOST_CELLS` cells by seed; None where fewer than `FEWEST_CELLS` are finished with
        this metric, or they do not vary. Cells that diverged, failed or are damaged (as by a NaN) do not count.
    """
    notes = [each for each in read_index(runs).invocations if replace(each.key, ablation=key.ablation) == key]
    asked = {cell.fingerprint: (cell, note.ablation) for note in notes for cell in note.cells if cell.recipe == recipe}
    found = [
        (each.asked.seed, each.asked.fingerprint, each.metrics[metric])
        for each in read_cell_results((cell for cell, _ in asked.values()), runs)
        if metric in each.metrics
    ]
    first = sorted(found)[:MOST_CELLS]
    if len(first) < FEWEST_CELLS:
        return None
    variance = float(np.var([value for _, _, value in first], ddof=1))
    if variance < ALIKE**2:
        return None
    return VariancePrior(
        variance=variance,
        metric=metric,
        fingerprints=tuple(fingerprint for _, fingerprint, _ in first),
        ablations=tuple(dict.fromkeys(asked[fingerprint][1] for _, fingerprint, _ in first)),
    )

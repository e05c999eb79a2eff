"""Interval of a single comparison of two or three seeds, with a variance prior from earlier cells of the control.

One difference has no others to share a variance with (`results.stats.moderated`). Earlier cells of the control, such as
those of `noise_floor`, tell how far seeds move an accuracy: the variance s² of m of them gives a paired difference of
uncorrelated cells a prior variance of 2 s², which counts for `PRIOR` degrees of freedom:

    s̃² = ((n - 1) s_d² + PRIOR 2 s²) / (n - 1 + PRIOR)

The interval is Δ ± c(n, m) s̃ / √n. The critical values are calibrated by simulation so that it holds in 95 % of
studies in the worst of the class of worlds (`results.stats.worlds`), in which the variant may vary three times as far
as the control, whether the control's seeds in the comparison are among the earlier cells or not
(`benchmarks/critical_values.py --history`). With four pairs or more Student's interval is narrower and is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from cifar_lab.results.stats.moderated import ModeratedInterval
from cifar_lab.results.stats.paired import ALIKE

PRIOR = 2.0
"""Degrees of freedom that the prior variance counts for."""
MOST_PAIRS = 3
"""Largest number of pairs with which the prior narrows the interval."""
FEWEST_CELLS, MOST_CELLS = 5, 20
"""Number of earlier cells that a prior needs, and the number beyond which more are not counted."""
HISTORY_TABLE = Path(__file__).with_name("history_values.json")


def history_interval(differences: Sequence[float], variance: float, cells: int) -> ModeratedInterval | None:
    """Return the 95 % interval of the mean of paired differences; None where Student's is to be used.

    Args:
        differences: paired differences, one for each seed.
        variance: sample variance of the accuracies of earlier cells of the control, as fractions squared.
        cells: number of these cells.
    """
    pairs = len(differences)
    if not 2 <= pairs <= MOST_PAIRS or cells < FEWEST_CELLS or variance < ALIKE**2:
        return None
    deviation = float(history_deviation(np.asarray(differences, dtype=float), np.asarray(variance)))
    critical = history_critical_value(pairs, cells)
    mean, half = float(np.mean(differences)), critical * deviation / math.sqrt(pairs)
    return ModeratedInterval(interval=(mean - half, mean + half), deviation=deviation, critical=critical)


def history_deviation(differences: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return s̃ of paired differences (..., n), with the variance (...) of earlier cells of the control."""
    degrees = differences.shape[-1] - 1
    own = differences.var(axis=-1, ddof=1)
    deviation: np.ndarray = np.sqrt((degrees * own + PRIOR * 2 * variance) / (degrees + PRIOR))
    return deviation


def history_critical_value(pairs: int, cells: int) -> float:
    """Return c(n, m), read off the calibrated table.

    Raises:
        KeyError: there is no value for so many pairs.
        ValueError: there are fewer cells than `FEWEST_CELLS`.
    """
    counts, values = _history_table()
    return values[pairs][counts.index(min(cells, MOST_CELLS))]


@lru_cache
def _history_table() -> tuple[list[int], dict[int, list[float]]]:
    """Return the numbers of cells, and by number of pairs the critical value for each."""
    tree = json.loads(HISTORY_TABLE.read_text())
    return tree["cells"], {int(pairs): values for pairs, values in tree["pairs"].items()}

"""Calibration of a network: how well the probability of its predictions matches the share that is correct."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

BINS = 15
"""Number of bins, as in Guo et al. (2017)."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Predictions whose confidence lies in one bin, `low` excluded and `high` included; all values are fractions."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean confidence; None for an empty bin."""
    accuracy: float | None
    """Share of correct predictions; None for an empty bin."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Expected calibration error and the bins that it is computed from."""

    error: float
    """Expected calibration error, from 0 to 1."""
    bins: tuple[ReliabilityBin, ...]


def measure_calibration(
    confidence: NDArray[np.floating], is_correct: NDArray[np.bool_], bins: int = BINS
) -> Calibration:
    """Return the expected calibration error over bins of equal width: Σ nᵦ / n · |accuracyᵦ − confidenceᵦ|.

    Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks", equation 3.

    Args:
        confidence: probability of each prediction, (N,), from 0 to 1, N ≥ 1.
        is_correct: (N,).
        bins: number of bins; bin m has the confidences above (m − 1) / bins and up to m / bins.
    """
    place = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=confidence, minlength=bins)
    hits = np.bincount(place, weights=is_correct.astype(np.float64), minlength=bins)
    table = tuple(
        ReliabilityBin(
            low=at / bins, high=(at + 1) / bins, images=int(count[at]),
            confidence=float(sums[at] / count[at]) if count[at] else None,
            accuracy=float(hits[at] / count[at]) if count[at] else None,
        )
        for at in range(bins)
    )  # fmt: skip
    return Calibration(error=float(np.abs(hits - sums).sum() / len(confidence)), bins=table)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the temperature by which logits are divided so that the loss on labelled images is smallest: 0.05 to 20.

    Temperature scaling of Guo et al. (2017); it changes no prediction.

    Args:
        logits: (N, classes).
        labels: (N,).
    """
    exact = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = exact / np.exp(log_temperature)
        top = scaled.max(axis=1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((log_sum - scaled[rows, labels]).mean())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))

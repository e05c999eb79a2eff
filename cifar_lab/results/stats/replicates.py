"""Summaries of a few seeds: mean and standard deviation, and differences by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class SeedSummary:
    """Number of values, their mean (None if `n` is 0) and sample standard deviation (None below two)."""

    n: int
    mean: float | None
    std: float | None


def summarise(values: Mapping[int, float]) -> SeedSummary:
    """Summarize values by seed."""
    array = np.array(list(values.values()))
    return SeedSummary(
        n=len(array),
        mean=float(array.mean()) if len(array) else None,
        std=float(array.std(ddof=1)) if len(array) > 1 else None,
    )


def differences_by_seed(values: Mapping[int, float], control: Mapping[int, float]) -> dict[int, float]:
    """Return `values - control` by seed, over the seeds that both have."""
    return {seed: values[seed] - control[seed] for seed in sorted(values.keys() & control.keys())}

"""What a handful of seeds says: mean and deviation, and what they differ by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Summary:
    """`n` values, their mean (None of nothing) and sample deviation (None below two)."""

    n: int
    mean: float | None
    std: float | None


def summarise(values: Mapping[int, float]) -> Summary:
    """Summary of values by seed."""
    array = np.array(list(values.values()))
    return Summary(
        n=len(array),
        mean=float(array.mean()) if len(array) else None,
        std=float(array.std(ddof=1)) if len(array) > 1 else None,
    )


def differences(values: Mapping[int, float], control: Mapping[int, float]) -> dict[int, float]:
    """`values - control` by seed, over the seeds that both have: the others say nothing about it."""
    return {seed: values[seed] - control[seed] for seed in sorted(values.keys() & control.keys())}

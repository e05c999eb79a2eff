"""Sign-flip permutation test: under the null hypothesis a paired difference is as likely negative as positive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXACT_UP_TO = 20
"""Number of differences up to which all sign patterns are enumerated: 2²⁰, a million."""
DRAWS = 100_000
"""Number of random patterns for more differences."""
_ROUNDING = 1e-9
"""Sums this close, relative to the largest possible one, count as ties."""


@dataclass(frozen=True, kw_only=True)
class SignFlip:
    """Two-sided p-value, whether it is exact (all sign patterns), and the smallest possible with so many pairs."""

    p_value: float
    is_exact: bool
    smallest: float


def sign_flip(differences: Sequence[float]) -> SignFlip | None:
    """Return the share of sign patterns whose mean is at least as far from zero as observed; None without differences.

    The sharp null hypothesis is that control and variant are exchangeable within each pair. Exact up to
    `EXACT_UP_TO` differences. Beyond, `DRAWS` random patterns (with a fixed seed) and the observed one are counted:
    Phipson and Smyth (2010), "Permutation p-values should never be zero".
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n == 0:
        return None
    reached = abs(values.sum()) - _ROUNDING * np.abs(values).sum()
    if n <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in values[1:]:  # the first sign stays: the other half of the patterns mirrors this one
            sums = np.concatenate((sums + value, sums - value))
        extreme = np.abs(sums + values[0]) >= reached
        return SignFlip(p_value=float(extreme.mean()), is_exact=True, smallest=2.0 ** (1 - n))
    signs = np.random.default_rng(0).integers(0, 2, size=(DRAWS, n), dtype=np.int8)
    sums = (2.0 * signs - 1.0) @ values
    count = int((np.abs(sums) >= reached).sum())
    return SignFlip(p_value=(count + 1) / (DRAWS + 1), is_exact=False, smallest=1 / (DRAWS + 1))

"""Multiple comparisons: confidence level of simultaneous intervals (Šidák) and adjusted p-values (Holm)."""

from __future__ import annotations

from collections.abc import Mapping

CONFIDENCE = 0.95
"""Joint confidence of all intervals of a table."""


def per_comparison(confidence: float, comparisons: int) -> float:
    """Return the level of each of k intervals that hold simultaneously with `confidence`: `confidence`^(1/k).

    Šidák (1967), "Rectangular confidence regions for the means of multivariate normal distributions". Exact for
    independent comparisons. Differences from a shared control are correlated, which makes the intervals slightly too
    wide: `docs/statistics.md` measures by how much.
    """
    return float(confidence ** (1 / comparisons)) if comparisons > 1 else confidence


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values by name, adjusted for their number with Holm's step-down method.

    Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted, highest = {}, 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for rank, (name, p) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}

"""A 2 × 2 crossing: what each factor does on average, and whether what one does depends on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cifar_lab.stats.family import per_comparison
from cifar_lab.stats.paired import PairedDifference, Values, of_differences

CONTRASTS = 3
"""Two main effects and an interaction."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Contrasts by seed, each with its interval; the three hold together."""

    first: PairedDifference
    """Main effect: changing the first factor, averaged over the second."""
    second: PairedDifference
    interaction: PairedDifference
    """What changing the first does when the second is changed, less what it does when it is not."""


def effects(cells: Sequence[Values], level: float = per_comparison(0.95, CONTRASTS)) -> Effects:
    """`cells`: measurements by seed of (neither, first, second, both changed). A seed counts where all four have it.

    `level`: confidence of each interval; by default all three hold together with 95 %.
    """
    seeds = sorted(set.intersection(*(set(cell) for cell in cells)))
    neither, first, second, both = ([cell[seed] for seed in seeds] for cell in cells)

    def contrast(values: Sequence[float]) -> PairedDifference:
        return of_differences(dict(zip(seeds, values, strict=True)), level=level)

    quads = list(zip(neither, first, second, both, strict=True))
    return Effects(
        first=contrast([((b - n) + (c - s)) / 2 for n, b, s, c in quads]),
        second=contrast([((s - n) + (c - b)) / 2 for n, b, s, c in quads]),
        interaction=contrast([(c - s) - (b - n) for n, b, s, c in quads]),
    )

"""Main effects and interaction of a 2 × 2 factorial design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cifar_lab.results.stats.moderated import ModeratedInterval, moderated_intervals
from cifar_lab.results.stats.multiple_comparisons import per_comparison
from cifar_lab.results.stats.paired import PairedDifference, Values, of_differences

CONTRASTS = 3
"""Two main effects and an interaction."""
Moderate = Callable[[Mapping[str, Values]], Mapping[str, ModeratedInterval]]
"""Function from differences by name and seed to their moderated intervals."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Contrasts by seed, each with its interval; the three intervals hold simultaneously."""

    first: PairedDifference
    """Main effect: changing the first factor, averaged over the second."""
    second: PairedDifference
    interaction: PairedDifference
    """Interaction: effect of the first factor with the second changed, minus its effect with the second unchanged."""
    is_moderated: bool = False
    """True if the intervals are moderated ones; Student's otherwise."""


def estimate_effects(cells: Sequence[Values], level: float = per_comparison(0.95, CONTRASTS)) -> Effects:
    """Estimate both main effects and the interaction from four groups of cells.

    `cells`: measurements by seed of (neither, first, second, both changed); only seeds that all four have are used.
    `level`: confidence of each interval; by default the three hold simultaneously with 95 %.
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


def _moderate(differences: Mapping[str, Values]) -> Mapping[str, ModeratedInterval]:
    return moderated_intervals({name: list(values.values()) for name, values in differences.items()})


def moderate_effects(effects: Effects, moderate: Moderate = _moderate) -> Effects:
    """Return the effects with moderated simultaneous 95 % intervals, where two of them vary and have two seeds or more.

    `moderate`: makes the intervals; by default those of a fixed number of seeds.

    Each main effect and half of the interaction are sums of the same four cells with weights of a half, so that their
    variances are equal whatever those of the four variants are: what is shrunk is alike. The critical value is that of
    three differences to one control (`cifar_lab.results.stats.moderated`).
    """
    halves = {"first": 1.0, "second": 1.0, "interaction": 0.5}
    values = {
        name: {seed: half * value for seed, value in getattr(effects, name).differences.items()}
        for name, half in halves.items()
    }
    made = {
        name: replace(getattr(effects, name), interval=tuple(end / halves[name] for end in each.interval), reason=None)
        for name, each in moderate(values).items()
    }
    return replace(effects, **made, is_moderated=bool(made))

"""Compare numbers that were made elsewhere: one value per variant and seed, with the intervals and rules of the lab."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cifar_lab.results.stats.decision import decide_verdict
from cifar_lab.results.stats.moderated import moderated_intervals
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.results.stats.paired import Interval, Values, paired_difference, welch
from cifar_lab.results.stats.replicates import differences_by_seed, summarise

Method = Literal["moderated", "paired", "unpaired"]
METHODS: dict[Method, str] = {
    "moderated": "paired by seed, variances shrunk towards their mean",
    "paired": "paired by seed, Student",
    "unpaired": "no seed in common, Welch",
}
"""Methods of an interval, with words that say what each is."""


@dataclass(frozen=True, kw_only=True)
class JudgedVariant:
    """One variant, with its difference to the control."""

    variant: str
    n: int
    """Seeds with a number."""
    mean: float | None
    std: float | None
    """Sample deviation; None below two seeds."""
    lost: int = 0
    """Seeds without a number: they diverged or failed."""
    difference: float | None = None
    """Mean difference to the control; above 0 where the variant's values are higher. None for the control."""
    pairs: int = 0
    """Seeds in common with the control."""
    interval: Interval | None = None
    method: Method | None = None
    verdict: str | None = None
    """better, worse, equivalent or undecided; None for the control and where there is no interval."""
    reason: str | None = None
    """Why there is no verdict, or none better than undecided."""


def judge_measurements(
    values: Mapping[str, Mapping[str, float | None]], control: str, margin: float, *,
    confidence: float | None = None, lower_is_better: bool = False,
) -> list[JudgedVariant]:  # fmt: skip
    """Compare each variant with the control; the intervals of all differences hold together.

    Args:
        values: by variant and seed; None where a training came to no number.
        control: the variant that the others are compared with.
        margin: the difference that does not matter, in the unit of the values.
        confidence: of all intervals together. Without it 95 %, by moderated intervals where every variant has two seeds
            or more in common with the control; with it, at Šidák's level.
        lower_is_better: verdicts are turned around; differences are not.

    A variant that shares two seeds or more with the control is compared on these; one that shares none is compared by
    Welch's interval on all its seeds. Where a training came to no number, nothing is decided: the seeds that did are
    no random choice.

    Raises:
        ValueError: there is no control of that name, or nothing to compare it with.
    """
    if control not in values or len(values) < 2:
        raise ValueError("a control and at least one other variant are needed")
    numbered = _numbered(values)
    unit = _unit(numbered)
    scaled = {name: {seed: value / unit for seed, value in own.items()} for name, own in numbered.items()}
    others = [name for name in values if name != control]
    shared = {name: list(differences_by_seed(scaled[name], scaled[control]).values()) for name in others}
    can_moderate = confidence is None and all(len(each) >= 2 for each in shared.values())
    moderated = moderated_intervals(shared) if can_moderate else {}
    level = per_comparison(CONFIDENCE if confidence is None else confidence, len(others))
    made = []
    for name, own in values.items():
        found = summarise(scaled[name])
        one = JudgedVariant(variant=name, n=found.n, mean=found.mean, std=found.std, lost=len(own) - found.n)
        if name != control:
            one = _compared(one, scaled[name], scaled[control], level)
            if name in moderated:
                one = replace(one, interval=moderated[name].interval, method="moderated", reason=None)
            lost = one.lost + len(values[control]) - len(scaled[control])
            one = _decided(one, lost, margin / unit, lower_is_better=lower_is_better)
        made.append(_in_unit(one, unit))
    return made


def _numbered(values: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[int, float]]:
    """Return the numbers by numbers in place of the seeds' names; equal names have equal numbers."""
    numbers = {seed: i for i, seed in enumerate(dict.fromkeys(seed for own in values.values() for seed in own))}
    return {
        name: {numbers[seed]: value for seed, value in own.items() if value is not None} for name, own in values.items()
    }


def _unit(values: Mapping[str, Values]) -> float:
    """Return a power of two near the largest value: divided by it, rounding is far below any difference."""
    return math.ldexp(1.0, math.frexp(max((abs(v) for own in values.values() for v in own.values()), default=1.0))[1])


def _in_unit(one: JudgedVariant, unit: float) -> JudgedVariant:
    """Return the numbers times `unit`, which is exact for a power of two."""
    mean, std, difference = (None if each is None else each * unit for each in (one.mean, one.std, one.difference))
    interval = (one.interval[0] * unit, one.interval[1] * unit) if one.interval is not None else None
    return replace(one, mean=mean, std=std, difference=difference, interval=interval)


def _compared(one: JudgedVariant, own: Values, control: Values, level: float) -> JudgedVariant:
    """Return the variant with its difference to the control: paired where they share seeds, else Welch's."""
    found = paired_difference(own, control, level=level)
    if found.pairs:
        return replace(one, difference=found.mean, pairs=found.pairs, interval=found.interval, method="paired",
                       reason=found.reason)  # fmt: skip
    if not own or not control:
        return replace(one, reason="no number")
    a, b = (np.array(list(side.values())) for side in (own, control))
    one = replace(one, difference=float(a.mean() - b.mean()), method="unpaired")
    if min(len(a), len(b)) < 2:
        return replace(one, reason="no seed in common, and one seed has no deviation")
    interval = welch(a, b, level)
    return replace(one, interval=interval, reason=None if interval is not None else "nothing varies")


def _decided(one: JudgedVariant, lost: int, margin: float, *, lower_is_better: bool) -> JudgedVariant:
    interval = one.interval
    verdict = decide_verdict(
        (-interval[1], -interval[0]) if interval is not None and lower_is_better else interval, margin
    )
    if lost and verdict not in {None, "undecided"}:
        return replace(one, verdict="undecided", reason=f"{verdict} without {lost} that came to no number")
    return replace(one, verdict=verdict)


def share_of_look(number: int) -> float:
    """Return the share of the allowed error that look 1, 2, 3, … at a ledger may spend: 1/2, 1/6, 1/12, …

    The shares 1 / (i (i + 1)) of all looks add up to 1, however many there will be, so that all intervals of all looks
    hold together (Bonferroni over looks).
    """
    return 1 / (number * (number + 1))

"""Compare numbers that were made elsewhere: one value per variant and seed, with the intervals and rules of the lab."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cifar_lab.stats.decide import decide
from cifar_lab.stats.family import per_comparison
from cifar_lab.stats.moderated import moderated_intervals
from cifar_lab.stats.paired import Interval, Values, paired_difference, welch
from cifar_lab.stats.replicates import summarise

Method = Literal["moderated", "paired", "unpaired"]
CONFIDENCE = 0.95
METHODS: dict[Method, str] = {
    "moderated": "paired by seed, variances shrunk towards their mean",
    "paired": "paired by seed, Student",
    "unpaired": "no seed in common, Welch",
}
"""Methods of an interval, with words that say what each is."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
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


def judge(
    values: Mapping[str, Mapping[str, float | None]], control: str, margin: float, *,
    confidence: float | None = None, lower_is_better: bool = False,
) -> list[Verdict]:  # fmt: skip
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
    finished = {name: {seed: v for seed, v in own.items() if v is not None} for name, own in values.items()}
    numbered, unit = _numbered(finished), _unit(finished)
    scaled = {name: {seed: v / unit for seed, v in own.items()} for name, own in numbered.items()}
    others = [name for name in values if name != control]
    level = per_comparison(CONFIDENCE if confidence is None else confidence, len(others))
    shared = {name: len(numbered[name].keys() & numbered[control].keys()) for name in others}
    intervals = (
        _moderated(scaled, control, others)
        if confidence is None and len(others) > 1 and min(shared.values()) >= 2
        else {}
    )
    made = []
    for name, own in values.items():
        found = summarise(numbered[name])
        lost = len(own) - found.n
        verdict = Verdict(variant=name, n=found.n, mean=found.mean, std=found.std, lost=lost)
        if name != control:
            lost += sum(value is None for value in values[control].values())
            compared = _compare(scaled[name], scaled[control], level, intervals.get(name))
            verdict = _judged(verdict, _times(compared, unit), lost, margin, lower_is_better=lower_is_better)
        made.append(verdict)
    return made


Compared = tuple[float | None, int, Interval | None, Method | None, str | None]
"""Difference, pairs, interval, its method, and why there is none."""


def _numbered(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[int, float]]:
    """Return the values by numbers in place of the seeds' names; equal names have equal numbers."""
    numbers = {seed: i for i, seed in enumerate(dict.fromkeys(seed for own in values.values() for seed in own))}
    return {name: {numbers[seed]: value for seed, value in own.items()} for name, own in values.items()}


def _unit(values: Mapping[str, Mapping[str, float]]) -> float:
    """Return a power of two near the largest value: divided by it, rounding is far below any difference."""
    return math.ldexp(1.0, math.frexp(max((abs(v) for own in values.values() for v in own.values()), default=1.0))[1])


def _times(compared: Compared, unit: float) -> Compared:
    difference, pairs, interval, method, reason = compared
    return (
        difference * unit if difference is not None else None,
        pairs,
        (interval[0] * unit, interval[1] * unit) if interval is not None else None,
        method,
        reason,
    )


def _moderated(values: Mapping[str, Values], control: str, others: list[str]) -> dict[str, Interval]:
    differences = {
        name: [value - values[control][seed] for seed, value in values[name].items() if seed in values[control]]
        for name in others
    }
    return {name: each.interval for name, each in moderated_intervals(differences).items()}


def _compare(own: Values, control: Values, level: float, moderated: Interval | None) -> Compared:
    found = paired_difference(own, control, level=level)
    if moderated is not None:
        return found.mean, found.pairs, moderated, "moderated", None
    if found.pairs:
        return found.mean, found.pairs, found.interval, "paired", found.reason
    if not own or not control:
        return None, 0, None, None, "no number"
    a, b = (np.array(list(side.values())) for side in (own, control))
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return difference, 0, None, "unpaired", "no seed in common, and one seed has no deviation"
    interval = welch(a, b, level)
    return difference, 0, interval, "unpaired", None if interval is not None else "nothing varies"


def _judged(of: Verdict, compared: Compared, lost: int, margin: float, *, lower_is_better: bool) -> Verdict:
    difference, pairs, interval, method, reason = compared
    turned = (-interval[1], -interval[0]) if interval is not None and lower_is_better else interval
    verdict: str | None = decide(turned, margin)
    if lost and verdict not in {None, "undecided"}:
        verdict, reason = "undecided", f"{verdict} without {lost} that came to no number"
    return Verdict(
        variant=of.variant, n=of.n, mean=of.mean, std=of.std, lost=of.lost, difference=difference, pairs=pairs,
        interval=interval, method=method, verdict=verdict, reason=reason,
    )  # fmt: skip


def share_of_look(number: int) -> float:
    """Return the share of the allowed error that look 1, 2, 3, … at a ledger may spend: 1/2, 1/6, 1/12, …

    The shares 1 / (i (i + 1)) of all looks add up to 1, however many there will be, so that all intervals of all looks
    hold together (Bonferroni over looks).
    """
    return 1 / (number * (number + 1))

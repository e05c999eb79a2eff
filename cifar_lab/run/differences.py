"""Differences of each variant of a setting from its control, with intervals, tests and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cifar_lab.ablation import MARGINS
from cifar_lab.report.comparison import Effect, Stopped
from cifar_lab.run.replicate import Replicate, by_seed
from cifar_lab.stats import sequential
from cifar_lab.stats.decide import decide
from cifar_lab.stats.factorial import CONTRASTS, Effects, effects
from cifar_lab.stats.family import holm, per_comparison
from cifar_lab.stats.paired import NO_PAIR, Interval, PairedDifference, paired_difference
from cifar_lab.stats.power import seeds_needed
from cifar_lab.tracking.invocation import Invocation, Stopping

CONFIDENCE = 0.95
"""Joint confidence of all intervals of a table."""
WORTH_SEEING = ("0.1", "0.2", "0.5")
"""Differences in percentage points for which the number of seeds needed is computed."""
NO_LOOK = "seeds are being added until all is decided, and no planned look is complete"
ENDED = frozenset({"finished", "diverged"})


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Difference of one variant, with its verdict."""

    found: PairedDifference
    verdict: str | None = None
    p_holm: float | None = None
    seeds_needed: Mapping[str, int | None] | None = None

    @classmethod
    def nothing(cls) -> Compared:
        """Return an empty difference, for a row that is compared with nothing."""
        return cls(found=PairedDifference(differences={}, level=CONFIDENCE))

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `Row` that describe the difference."""
        found, test = self.found, self.found.test
        return {
            "difference": found.mean,
            "difference_std": found.std,
            "differences": found.differences,
            "pairs": found.pairs,
            "interval": found.interval,
            "level": found.level if found.interval is not None else None,
            "welch": found.welch,
            "correlation": found.correlation,
            "effect": found.effect,
            "p_value": test.p_value if test is not None else None,
            "p_holm": self.p_holm,
            "p_exact": test.is_exact if test is not None else None,
            "p_smallest": test.smallest if test is not None else None,
            "verdict": self.verdict,
            "reason": found.reason,
            "seeds_needed": dict(self.seeds_needed or {}),
        }


def make_differences(
    same: Sequence[Invocation], of: Mapping[str, list[Replicate]], against: Mapping[str, str | None], metric: str
) -> dict[str, Compared]:
    """Return the difference in `metric` of each variant that is compared with another; their intervals hold jointly."""
    margin, rule = margin_of(same), rule_of(same)
    family = {name: other for name, other in against.items() if other is not None}
    level = per_comparison(CONFIDENCE, len(family))
    made = {}
    for name, other in family.items():
        own, theirs = of[name], of.get(other, [])
        found = _differ(own, theirs, metric, level) if rule is None else _at_look(own, theirs, metric, rule)
        if own and not theirs:
            what = "the control" if other == same[-1].control else "the stage before,"
            found = replace(found, reason=f"{what} {other} was not run")
        made[name] = Compared(found=found, verdict=_verdict(found, own, margin), seeds_needed=_seeds(found, level))
    adjusted = holm({name: each.found.test.p_value for name, each in made.items() if each.found.test is not None})
    return {name: replace(each, p_holm=adjusted.get(name)) for name, each in made.items()}


def make_effects(
    same: Sequence[Invocation], of: Mapping[str, list[Replicate]], metric: str, margin: float
) -> tuple[Effect, ...]:
    """Estimate the main effect of each factor of a 2 × 2 study, and their interaction; empty for other studies."""
    crossing = same[-1].crossing
    if crossing is None or not all(of.get(variant) for variant in crossing["variants"]):
        return ()
    found = _effects(same, [of[variant] for variant in crossing["variants"]], metric)
    one, two = crossing["factors"]
    interaction = f"{one} × {two}"
    named = {one: found.first, two: found.second, interaction: found.interaction}
    return tuple(
        Effect(
            name=name,
            pairs=each.pairs,
            difference=each.mean,
            interval=each.interval,
            level=each.level,
            verdict=_presence(each.interval, margin) if name == interaction else decide(each.interval, margin),
            reason=each.reason,
        )
        for name, each in named.items()
    )


def _presence(interval: Interval | None, margin: float) -> str | None:
    """Return whether an interaction is present or absent, whatever its sign (main effects are better or worse)."""
    decided = decide(interval, margin)
    words = {"better": "present", "worse": "present", "equivalent": "absent", "undecided": "undecided"}
    return None if decided is None else words[decided]


def _effects(same: Sequence[Invocation], groups: Sequence[list[Replicate]], metric: str) -> Effects:
    """Estimate effects from all seeds; under a stopping rule, from the last complete look, at that look's level."""
    rule = rule_of(same)
    if rule is None:
        return effects([by_seed(own, metric) for own in groups])
    taken = looks_taken(rule, *groups)
    levels = sequential.levels(rule.looks, 1 - per_comparison(rule.confidence, CONTRASTS))
    seeds = range(rule.looks[taken - 1] if taken else 0)
    seen = [by_seed([each for each in own if each.asked.seed in seeds], metric) for own in groups]
    return effects(seen, levels[max(0, taken - 1)])


def margin_of(same: Sequence[Invocation]) -> float:
    """Return the equivalence margin: that fixed by a stopping rule, else that of the latest invocation."""
    rule = rule_of(same)
    return rule.margin if rule is not None and rule.margin is not None else _margin(same[-1])


def margin_before(same: Sequence[Invocation]) -> tuple[float, str] | None:
    """Return the latest different margin used earlier, with the first invocation that changed it; None without one."""
    now, margins = margin_of(same), [_margin(each) for each in same]
    changed = [i for i in range(1, len(same)) if margins[i] == now != margins[i - 1]]
    return (margins[changed[-1] - 1], same[changed[-1]].id) if changed else None


def _margin(of: Invocation) -> float:
    return of.margin if of.margin is not None else MARGINS[of.scale.partition("/")[0]] / 100


def rule_of(same: Sequence[Invocation]) -> Stopping | None:
    """Return the stopping rule of a setting; seeds added by hand do not undo it, but it may be dropped."""
    return None if was_dropped(same) else _begun(same)


def was_dropped(same: Sequence[Invocation]) -> bool:
    """Tell whether a setting's stopping rule was dropped: permanently, as its results had been seen."""
    return any(each.stopping_dropped for each in same)


def _begun(same: Sequence[Invocation]) -> Stopping | None:
    return next((each.stopping for each in reversed(same) if each.stopping is not None), None)


def stopped(same: Sequence[Invocation], of: Mapping[str, list[Replicate]]) -> Stopped | None:
    """Return the rule of a setting with the number of looks taken."""
    rule = _begun(same)
    if rule is None:
        return None
    seen = max((looks_taken(rule, own) for own in of.values()), default=0)
    return Stopped(
        looks=rule.looks, seen=seen, levels=rule.levels, spending=rule.spending, before=rule.before,
        dropped=was_dropped(same),
    )  # fmt: skip


def looks_taken(rule: Stopping, *groups: Sequence[Replicate]) -> int:
    """Count the looks that are complete in each of `groups`: all of their first seeds ended."""
    ended = [{each.asked.seed for each in group if each.state in ENDED} for group in groups]
    return sum(all(set(range(n)) <= seeds for seeds in ended) for n in rule.looks)


def _differ(own: list[Replicate], theirs: list[Replicate], metric: str, level: float) -> PairedDifference:
    found = paired_difference(by_seed(own, metric), by_seed(theirs, metric), level=level)
    if found.reason == NO_PAIR and own and theirs:
        for name, group in (("the variant", own), ("what it is compared with", theirs)):
            if all(each.state == "diverged" for each in group):
                return replace(found, reason=f"{name} diverged in every seed")
    return found


def _at_look(own: list[Replicate], theirs: list[Replicate], metric: str, rule: Stopping) -> PairedDifference:
    """Return the difference on the seeds of the last complete look; later seeds are ignored."""
    taken = looks_taken(rule, own, theirs)
    if not taken:
        return PairedDifference(differences={}, level=rule.levels[0], reason=NO_LOOK)
    seeds, level = range(rule.looks[taken - 1]), rule.levels[taken - 1]
    mine, others = ([each for each in group if each.asked.seed in seeds] for group in (own, theirs))
    return _differ(mine, others, metric, level)


def _verdict(found: PairedDifference, own: list[Replicate], margin: float) -> str | None:
    if own and all(each.state == "diverged" for each in own):
        return "diverged"
    decided = decide(found.interval, margin)
    return "undecided" if decided is None and found.pairs else decided


def _seeds(found: PairedDifference, level: float) -> dict[str, int | None]:
    if not found.std or found.pairs < 3:  # two values estimate a deviation too badly
        return {}
    return {points: seeds_needed(float(points) / 100, found.std, level) for points in WORTH_SEEING}

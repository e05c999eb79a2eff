"""Differences of each variant of a setting from its control, with intervals, tests and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cifar_lab.ablation.ablation import MARGINS
from cifar_lab.results.cell_results import CellResult, by_seed, differences_at_chance, with_guesses
from cifar_lab.results.comparison import Effect, StoppingSummary
from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.decision import decide_with_diverged
from cifar_lab.results.stats.factorial import CONTRASTS, Effects, estimate_effects, moderate_effects
from cifar_lab.results.stats.history_prior import history_interval
from cifar_lab.results.stats.moderated import (
    Family,
    ModeratedInterval,
    family_of,
    moderated_intervals,
    moderated_seeds_needed,
)
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, holm, per_comparison
from cifar_lab.results.stats.paired import NO_PAIR, PairedDifference, paired_difference
from cifar_lab.results.stats.power import seeds_needed
from cifar_lab.store.cell_record import ENDED
from cifar_lab.store.invocation import MODERATED, STUDENT, Invocation, StoppingRule, VariancePrior

WORTH_SEEING = ("0.1", "0.2", "0.5")
"""Differences in percentage points for which the number of seeds needed is computed."""
NO_LOOK = "seeds are being added until all is decided, and no planned look is complete"


PRESENCE = {"better": "present", "worse": "present", "equivalent": "absent"}
"""Verdicts on an interaction, which is there or is not, whichever its sign."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Difference of one variant, with its verdict."""

    found: PairedDifference
    moderated: ModeratedInterval | None = None
    """The interval in `found`, where it is a moderated one."""
    verdict: str | None = None
    p_holm: float | None = None
    seeds_needed: Mapping[str, int | None] | None = None

    @classmethod
    def nothing(cls) -> Contrast:
        """Return an empty difference, for a row that is compared with nothing."""
        return cls(found=PairedDifference(differences={}, level=CONFIDENCE))

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `ComparisonRow` that describe the difference."""
        found, test = self.found, self.found.test
        has_level = found.interval is not None and self.moderated is None
        return {
            "difference": found.mean,
            "difference_std": found.std,
            "differences": found.differences,
            "pairs": found.pairs,
            "interval": found.interval,
            "level": found.level if has_level else None,
            "deviation": self.moderated.deviation if self.moderated is not None else None,
            "critical": self.moderated.critical if self.moderated is not None else None,
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
    same: Sequence[Invocation], of: Mapping[str, list[CellResult]], against: Mapping[str, str | None], metric: str
) -> dict[str, Contrast]:
    """Return the difference in `metric` of each variant that is compared with another; their intervals hold jointly."""
    margin, rule = margin_of(same), rule_of(same)
    family = {name: other for name, other in against.items() if other is not None}
    level = per_comparison(CONFIDENCE, len(family))
    looked: dict[str, Sequence[list[CellResult]]] = {
        name: (of[name], of.get(other, [])) for name, other in family.items()
    }
    kind = family_of(family.values())
    if rule is None:
        found = {name: _differ(groups, metric, level) for name, groups in looked.items()}
        moderated = _moderated(same, found, kind, metric)
    else:
        looks = {name: at_last_look(rule, groups) for name, groups in looked.items()}
        looked = {name: groups for name, (_, groups) in looks.items()}
        found = {
            name: _differ(groups, metric, rule.levels[taken - 1])
            if taken
            else PairedDifference(differences={}, level=rule.levels[0], reason=NO_LOOK)
            for name, (taken, groups) in looks.items()
        }
        seen = {name: rule.looks[taken - 1] if taken else 0 for name, (taken, _) in looks.items()}
        moderated = _moderated_by_rule(rule, found, seen)
    made, wider = {}, 1.0
    if rule is not None:
        level = rule.levels[-1]
        if len(moderated) > 1:
            wider = group_sequential.last_look_widening(rule.looks, rule.critical, len(moderated), kind)
    for name, each in found.items():
        one, other = moderated.get(name), family[name]
        if of[name] and not of.get(other):
            what = "the control" if other == same[-1].control else "the stage before,"
            each = replace(each, reason=f"{what} {other} was not run")
        if one is not None:
            each = replace(each, interval=one.interval, reason=None)
            needed = _moderated_seeds(each, one, len(moderated), kind, wider)
        else:
            needed = _seeds(each, level)
        mine, others = looked[name]
        at_chance = differences_at_chance(mine, others, metric).values()
        verdict, why = _verdict(each, of[name], at_chance, margin)
        each = replace(each, reason=why or each.reason)
        made[name] = Contrast(found=each, moderated=one, verdict=verdict, seeds_needed=needed)
    adjusted = holm({name: each.found.test.p_value for name, each in made.items() if each.found.test is not None})
    return {name: replace(each, p_holm=adjusted.get(name)) for name, each in made.items()}


def design_of(same: Sequence[Invocation]) -> str:
    """Return the method of the intervals of a setting: as its rule fixed it, without one as its first invocation did.

    A setting that began under the old method keeps it: choosing one after results were seen would be choosing by them.
    """
    rule = rule_of(same)
    if rule is not None:
        return MODERATED if rule.critical else STUDENT
    return same[0].design or STUDENT


def prior_of(same: Sequence[Invocation], metric: str) -> VariancePrior | None:
    """Return the variance prior of a setting's single comparison, as its first invocation stored it; None for others.

    A prior that is stored later does not count: it might have been waited for after results were seen.
    """
    prior = same[0].prior
    usable = prior is not None and prior.metric == metric and rule_of(same) is None and design_of(same) == MODERATED
    return prior if usable else None


def _moderated(
    same: Sequence[Invocation], found: Mapping[str, PairedDifference], family: Family, metric: str
) -> dict[str, ModeratedInterval]:
    """Return the moderated intervals of a fixed number of seeds; of a single comparison, the one with its prior."""
    if design_of(same) != MODERATED:
        return {}
    values = {name: list(each.differences.values()) for name, each in found.items()}
    prior = prior_of(same, metric)
    if len(values) > 1 or prior is None:
        return moderated_intervals(values, family)
    made = {name: history_interval(own, prior.variance, len(prior.fingerprints)) for name, own in values.items()}
    return {name: each for name, each in made.items() if each is not None}


def _moderated_by_rule(
    rule: StoppingRule, found: Mapping[str, PairedDifference], seen: Mapping[str, int]
) -> dict[str, ModeratedInterval]:
    """Return the moderated intervals of a stopping rule, each at its difference's last look; none of an old rule."""
    if not rule.critical or rule.family is None:
        return {}
    by_look = dict(zip(rule.looks, rule.critical, strict=True))
    differences = {name: each.differences for name, each in found.items()}
    return group_sequential.moderated_at_looks(differences, seen, by_look, rule.family)


def critical_of_others(rule: StoppingRule, comparisons: int, family: Family) -> dict[int, float]:
    """Return the critical value of each look, by its seeds, for effects or claims; empty: they have Student's."""
    if not rule.moderates_all or rule.family is None:
        return {}
    return group_sequential.other_critical(
        tuple(zip(rule.looks, rule.critical, strict=True)), (rule.comparisons, rule.family), (comparisons, family),
        1 - rule.confidence,
    )  # fmt: skip


def make_effects(
    same: Sequence[Invocation], of: Mapping[str, list[CellResult]], metric: str, margin: float
) -> tuple[Effect, ...]:
    """Estimate the main effect of each factor of a 2 × 2 study, and their interaction; empty for other studies."""
    crossing = same[-1].crossing
    if crossing is None or not all(of.get(variant) for variant in crossing.variants):
        return ()
    found, guessed = _effects(same, [of[variant] for variant in crossing.variants], metric)
    one, two = crossing.factors
    has_level = not found.is_moderated
    return (
        _effect(one, found.first, guessed.first, margin, has_level=has_level),
        _effect(two, found.second, guessed.second, margin, has_level=has_level),
        _effect(f"{one} × {two}", found.interaction, guessed.interaction, margin, has_level=has_level, words=PRESENCE),
    )


def _effect(
    name: str, found: PairedDifference, guessed: PairedDifference, margin: float, *, has_level: bool,
    words: Mapping[str, str] | None = None,
) -> Effect:  # fmt: skip
    """Judge one contrast; `guessed` has the seeds in which some of the four diverged, too."""
    at_chance = [value for seed, value in guessed.differences.items() if seed not in found.differences]
    verdict, why = decide_with_diverged(found.interval, at_chance, margin, words)
    return Effect(
        name=name,
        pairs=found.pairs,
        difference=found.mean,
        interval=found.interval,
        level=found.level if has_level else None,
        verdict=verdict,
        reason=why or found.reason,
    )


def _effects(same: Sequence[Invocation], groups: Sequence[list[CellResult]], metric: str) -> tuple[Effects, Effects]:
    """Return the contrasts of finished seeds, and those with guesses for the cells that diverged.

    Under a stopping rule they are on the seeds of the last look that all four have, with the critical value or at the
    level of that look.
    """
    rule, level, taken = rule_of(same), per_comparison(CONFIDENCE, CONTRASTS), 0
    if rule is not None:
        taken, groups = at_last_look(rule, groups)
        level = group_sequential.levels(rule.looks, 1 - per_comparison(rule.confidence, CONTRASTS))[max(0, taken - 1)]
    finished, guessed = ([of(own, metric) for own in groups] for of in (by_seed, with_guesses))
    told = set().union(*finished)  # a seed in which all four diverged says nothing
    guessed = [{seed: value for seed, value in own.items() if seed in told} for own in guessed]
    effects = estimate_effects(finished, level)
    if rule is None and same[0].effects_design == MODERATED:  # as it was fixed before the first cell
        effects = moderate_effects(effects)
    elif rule is not None and taken and (critical := critical_of_others(rule, CONTRASTS, "control")):
        seen = rule.looks[taken - 1]
        effects = moderate_effects(
            effects,
            lambda of: group_sequential.moderated_at_looks(of, dict.fromkeys(of, seen), critical, "control"),
        )
    return effects, estimate_effects(guessed, level)


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


def rule_of(same: Sequence[Invocation]) -> StoppingRule | None:
    """Return the stopping rule of a setting; seeds added by hand do not undo it, but it may be dropped."""
    return None if was_dropped(same) else _begun(same)


def was_dropped(same: Sequence[Invocation]) -> bool:
    """Tell whether a setting's stopping rule was dropped: permanently, as its results had been seen."""
    return any(each.stopping_dropped for each in same)


def _begun(same: Sequence[Invocation]) -> StoppingRule | None:
    return next((each.stopping for each in reversed(same) if each.stopping is not None), None)


def stopping_summary(same: Sequence[Invocation], of: Mapping[str, list[CellResult]]) -> StoppingSummary | None:
    """Return the rule of a setting with the number of looks taken."""
    rule = _begun(same)
    if rule is None:
        return None
    seen = max((looks_taken(rule, own) for own in of.values()), default=0)
    return StoppingSummary(
        looks=rule.looks, seen=seen, levels=rule.levels, spending=rule.spending, before=rule.before,
        dropped=was_dropped(same), family=rule.family, critical=rule.critical,
    )  # fmt: skip


def looks_taken(rule: StoppingRule, *groups: Sequence[CellResult]) -> int:
    """Count the looks that are complete in each of `groups`: all of their first seeds ended."""
    ended = [{each.asked.seed for each in group if each.state in ENDED} for group in groups]
    return sum(all(set(range(n)) <= seeds for seeds in ended) for n in rule.looks)


def at_last_look(rule: StoppingRule, groups: Sequence[list[CellResult]]) -> tuple[int, list[list[CellResult]]]:
    """Return the number of looks that are complete in each of `groups`, and the cells of the last of them.

    Later seeds are left out; before the first look there are no cells.
    """
    taken = looks_taken(rule, *groups)
    seeds = range(rule.looks[taken - 1] if taken else 0)
    return taken, [[each for each in own if each.asked.seed in seeds] for own in groups]


def _differ(groups: Sequence[list[CellResult]], metric: str, level: float) -> PairedDifference:
    own, theirs = groups
    found = paired_difference(by_seed(own, metric), by_seed(theirs, metric), level=level)
    if found.reason == NO_PAIR and own and theirs:
        for name, group in (("the variant", own), ("what it is compared with", theirs)):
            if all(each.state == "diverged" for each in group):
                return replace(found, reason=f"{name} diverged in every seed")
    return found


def _verdict(
    found: PairedDifference, own: list[CellResult], at_chance: Iterable[float], margin: float
) -> tuple[str | None, str | None]:
    """Return the verdict on a variant, and a reason if seeds that diverged (`at_chance`) leave it undecided."""
    if own and all(each.state == "diverged" for each in own):
        return "diverged", None
    decided, why = decide_with_diverged(found.interval, at_chance, margin)
    return ("undecided" if decided is None and found.pairs else decided), why


def _moderated_seeds(
    found: PairedDifference, one: ModeratedInterval, comparisons: int, family: Family, wider: float
) -> dict[str, int | None]:
    if found.pairs < 3:
        return {}
    if comparisons == 1:  # from four pairs on its interval is Student's
        return {points: seeds_needed(float(points) / 100, one.deviation, CONFIDENCE) for points in WORTH_SEEING}
    return {
        points: moderated_seeds_needed(float(points) / 100, one.deviation, comparisons, family, wider=wider)
        for points in WORTH_SEEING
    }


def _seeds(found: PairedDifference, level: float) -> dict[str, int | None]:
    if not found.std or found.pairs < 3:  # two values estimate a deviation too badly
        return {}
    return {points: seeds_needed(float(points) / 100, found.std, level) for points in WORTH_SEEING}

"""Judge the claims of an ablation from the records on disk."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cifar_lab.ablation.ablation import LESS_IS_BETTER, METRICS, Ablation, Claim
from cifar_lab.config.scale import find_scale
from cifar_lab.errors import RegistryError, TrackingError, UsageError
from cifar_lab.results.cell_results import (
    CellResult,
    are_executed_alike,
    by_seed,
    group,
    read_cell_results,
    with_curve_metrics,
)
from cifar_lab.results.claim_families import ClaimFamily, FamilyKey, Pair, claim_families, family_key, pair_of
from cifar_lab.results.claim_power import ClaimPower, claim_powers
from cifar_lab.results.claim_setting import FROM_CURVES, MADE_WITH, NO_SUBJECT, OTHER_BASELINE, Conditions, metric_keys
from cifar_lab.results.compare import common_protocol
from cifar_lab.results.contrasts import (
    NO_LOOK,
    at_last_look,
    critical_of_others,
    design_of,
    margin_of,
    prior_of,
    rule_of,
    was_dropped,
)
from cifar_lab.results.declaration import of_declaration
from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.claims import ClaimSide, Judgement, Status, joined, judge_accuracy, judge_difference
from cifar_lab.results.stats.decision import CHANCE
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
from cifar_lab.results.stats.paired import Interval
from cifar_lab.results.stats.replicates import summarise
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import MODERATED
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.selection import Selection, has_baseline_of, select

NOT_RUN = "not run"
DROPPED_RULE = "a stopping rule was dropped: not protected against looking"


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """One claim of an ablation, with its judgement."""

    ablation: str
    claim: Claim
    judgement: Judgement
    question: str = ""
    """Question that it answers; empty for an accuracy that is reached, which is judged by itself."""
    together: int = 1
    """Number of claims of the question by the same metric, whose intervals hold together."""
    power: ClaimPower | None = None
    """Probability that the seeds asked for settle it; None where that is not computed."""
    setting: Selection | None = None
    """Setting in which it was measured; None if nowhere."""
    protocol: str = ""
    differs: tuple[str, ...] = ()
    """Differences from the conditions of the claim: `scale small`, `data cifar10-jpeg`, …."""
    measured: Mapping[str, Any] | None = None
    """Measured numbers, as fractions; None if not measured."""
    damage: tuple[str, ...] = ()
    """Damage of the cells that the claim is about: name, file and rule, one per line."""

    @property
    def status(self) -> Status:
        return self.judgement.status

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON; `scale` and `protocol` are the claim's, the measurement's are in `measured`."""
        claim = self.claim.model_dump(mode="json", exclude={"quote"})
        named = {"ablation": self.ablation, "claim": self.claim.quote, "compares": self.claim.compares, **claim}
        found: dict[str, Any] = {"status": self.status, "why": self.judgement.why, "differs": list(self.differs)}
        found |= {"damage": list(self.damage), "question": self.question or None, "together": self.together}
        found |= {"metric_definition": METRICS[self.claim.metric]}
        found |= {"power": self.power.as_dict() if self.power is not None else None}
        return {**named, **found, "measured": dict(self.measured) if self.measured is not None else None}


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A setting, with its cells as stored on disk."""

    setting: Selection
    cells: Mapping[str, list[CellResult]]
    """Replicates by variant."""
    protocol: str
    ablation: Ablation
    families: Mapping[FamilyKey, ClaimFamily]
    """Difference claims that hold together, by question and metric."""
    has_other_baseline: bool = False
    """True if the ablation had another baseline when the cells were trained."""
    intervals: Mapping[FamilyKey, Mapping[Pair, Interval]] = field(default_factory=dict)
    """The simultaneous intervals of differences by family, where the setting's design is moderated."""

    def look(self, claim: Claim) -> tuple[list[list[CellResult]], float] | None:
        """Return the cells of a claim's variants, and the confidence level for judging them.

        With a stopping rule, these are the cells of the last complete look; None before the first. A single variant is
        judged by itself, the differences of a question jointly.
        """
        groups = [self.cells.get(name, []) for name in claim.variants]
        family = self.families.get(family_key(self.ablation, claim)) if claim.worse is not None else None
        rule, level = rule_of(self.setting.invocations), family.level if family is not None else CONFIDENCE
        if rule is None or not all(groups):
            return groups, level
        taken, first = at_last_look(rule, groups)
        if not taken:
            return None
        return first, group_sequential.levels(rule.looks, 1 - level)[taken - 1]


def judge_claims(
    runs: Path, ablation: Ablation, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None, is_own: bool = False,
) -> list[JudgedClaim]:  # fmt: skip
    """Judge each claim of `ablation` in the requested setting; `is_own`: only in one that has its baseline.

    Without a request, the setting that the claims speak of is used if a cell of it is finished; else the latest without
    overrides; else the latest. Claims without a matching run are "not measured".

    Raises:
        TrackingError: notes or records in `runs` cannot be read, or `invocation` is not among them.
    """
    if not read_index(runs).of_ablation(ablation.name):
        return _judged_before(ablation, NOT_RUN, runs, scale, overrides, data)
    try:
        setting = select(
            runs, ablation.name, scale=scale, data=data, overrides=overrides, invocation=invocation,
            declared=ablation if is_own else None,
        )  # fmt: skip
    except TrackingError as error:  # the notes were readable above, so none of them matches
        if invocation is not None:
            raise
        return _judged_before(ablation, str(error), runs, scale, overrides, data)
    if (scale, data, invocation) == (None, None, None) and not overrides:
        setting = preferred(ablation, setting, runs)
    return judge_setting(ablation, setting, runs)


def preferred(ablation: Ablation, latest: Selection, runs: Path) -> Selection:
    """Choose the setting in which claims are judged by default, among `latest` and the other settings."""
    entries = sorted([*latest.others, latest.latest], key=lambda entry: entry.id)
    settings = [select(runs, ablation.name, invocation=entry.id) for entry in entries]
    claimed = [each for each in settings if _claims_met(ablation, each) and _has_finished(each, runs)]
    plain = [each for each in settings if not each.latest.overrides]
    chosen = (sorted(claimed, key=lambda each: _claims_met(ablation, each)) or plain or settings)[-1]
    return replace(chosen, others=tuple(entry for entry in entries if entry.id != chosen.latest.id))


def _claims_met(ablation: Ablation, setting: Selection) -> int:
    """Score how well this setting matches the claims.

    A claim about this scale, this protocol, this baseline and CIFAR-10 counts 2 if its recipe matches exactly, and 1 if
    only some of its `under` settings are missing.
    """
    latest, met, other = setting.latest, 0, not has_baseline_of(ablation, setting.latest)
    for claim in ablation.claims:
        missing = claim.missing(latest.overrides)
        alike = set(latest.overrides) <= NO_SUBJECT | (claim.under.keys() - missing.keys())
        there = (latest.scale, latest.protocol, latest.data.kind) == (claim.scale, claim.protocol, "cifar10")
        met += (1 if missing else 2) if alike and there and not other else 0
    return met


def _has_finished(setting: Selection, runs: Path) -> bool:
    return any(CellRecord(runs / asked.fingerprint).state() == "finished" for asked in setting.cells)


def judge_setting(ablation: Ablation, setting: Selection, runs: Path) -> list[JudgedClaim]:
    """Judge each claim of `ablation` from the records of one setting in `runs`.

    Cells of other recipes that variants of these names had before are left out, unless the baseline was another, too,
    the notes are so old that they name none, or the recipes cannot be told any more.
    """
    has_other_baseline = not has_baseline_of(ablation, setting.latest)
    if setting.latest.baseline and not has_other_baseline:
        with suppress(UsageError):  # scale, overrides or code of the setting are not there any more
            setting = of_declaration(setting, ablation)
    replicates = read_cell_results(setting.cells, runs)
    if any(claim.metric in FROM_CURVES for claim in ablation.claims):
        replicates = [with_curve_metrics(each, runs) for each in replicates]
    measured = _Measured(
        setting=setting,
        cells=group(replicates),
        protocol=common_protocol(setting.latest, replicates),
        has_other_baseline=has_other_baseline,
        ablation=ablation,
        families=claim_families(ablation),
    )
    if design_of(setting.invocations) == MODERATED:
        measured = replace(measured, intervals=_moderated(measured))
    found = [_find(ablation.name, claim, measured) for claim in ablation.claims]
    return _with_power(found, _powers_of(measured, runs))


def _judged_before(
    ablation: Ablation, why: str, runs: Path, scale: str | None, overrides: Mapping[str, Any] | None, data: str | None
) -> list[JudgedClaim]:
    """Return the claims before anything is trained, with their power for the seeds of the ablation.

    `scale`, `overrides` and `data` are those that are asked for; None: those that the claims were made with.
    """
    judged, images = Judgement(status="not measured", why=why), data or "cifar10"
    found = [
        JudgedClaim(ablation=ablation.name, claim=claim, judgement=judged, **_question(ablation, claim))
        for claim in ablation.claims
    ]
    conditions = Conditions(
        scale=scale or "writeup", protocol="writeup", data=images, is_cifar10=images == "cifar10",
        overrides={"train.protocol": "writeup", **(overrides or {})},
    )  # fmt: skip
    margin = ablation.margin(conditions.scale)
    return _with_power(found, claim_powers(ablation, conditions, seeds=len(ablation.seeds), margin=margin, runs=runs))


def _powers_of(measured: _Measured, runs: Path) -> list[ClaimPower]:
    """Return the power of claims with the seeds that a setting asked for."""
    setting = measured.setting
    try:
        find_scale(setting.latest.scale)
    except (RegistryError, UsageError):  # a note of another version
        return []
    return claim_powers(
        measured.ablation, _conditions(measured), seeds=len({cell.seed for cell in setting.cells}),
        margin=margin_of(setting.invocations), runs=runs,
        data_hash=setting.latest.data.hash, baseline=setting.latest.baseline,
        variants={cell.variant for cell in setting.cells}, moderated=_is_moderated(setting),
        stopping=rule_of(setting.invocations) is not None,
    )  # fmt: skip


def _with_power(found: list[JudgedClaim], powers: list[ClaimPower]) -> list[JudgedClaim]:
    return [replace(each, power=power) for each, power in zip(found, powers, strict=True)] if powers else found


def _simultaneous(claim: Claim, measured: _Measured) -> Interval | None:
    """Return the simultaneous interval of what a claim says is ahead less the other; None without one."""
    if claim.worse is None:
        return None
    pair = pair_of(claim)
    interval = measured.intervals.get(family_key(measured.ablation, claim), {}).get(pair)
    if interval is None:
        return None
    ahead = claim.worse if claim.metric in LESS_IS_BETTER else claim.better
    return interval if ahead == pair[0] else (-interval[1], -interval[0])


def _is_moderated(setting: Selection) -> bool:
    """Tell whether claims have the moderated intervals of a fixed number of seeds."""
    return rule_of(setting.invocations) is None and design_of(setting.invocations) == MODERATED


def _moderated(measured: _Measured) -> dict[FamilyKey, dict[Pair, Interval]]:
    """Return the moderated intervals of each family of claims; none of a family that has Student's under a rule."""
    intervals: dict[FamilyKey, dict[Pair, Interval]] = {}
    rule = rule_of(measured.setting.invocations)
    for key, family in measured.families.items():
        keys = metric_keys(family.metric, measured.protocol)
        names = {name for pair in family.pairs for name in pair}
        values = {name: by_seed(measured.cells.get(name, []), *keys) for name in names}
        if rule is None:
            intervals[key] = family.moderated(values, prior_of(measured.setting.invocations, keys[0]))
        elif critical := critical_of_others(rule, len(family.pairs), family.kind):
            taken = {
                pair: at_last_look(rule, [measured.cells.get(name, []) for name in pair])[0] for pair in family.pairs
            }
            seen = {pair: rule.looks[count - 1] if count else 0 for pair, count in taken.items()}
            intervals[key] = family.moderated_at_looks(values, seen, critical)
    return intervals


def _question(ablation: Ablation, claim: Claim) -> dict[str, Any]:
    """Return the fields of a judged claim that name its question and the size of its family."""
    if claim.worse is None:
        return {}
    key = family_key(ablation, claim)
    return {"question": key[0], "together": len(claim_families(ablation)[key].claims)}


def _find(ablation: str, claim: Claim, measured: _Measured) -> JudgedClaim:
    differs = _conditions(measured).differs(claim)
    cells = [each for name in claim.variants for each in measured.cells.get(name, [])]
    looked, numbers = measured.look(claim), None
    judged = Judgement(status="not measured", why=NO_LOOK)
    if looked is not None:
        groups, level = looked
        keys = metric_keys(claim.metric, measured.protocol)
        sides = [_side(name, own, keys) for name, own in zip(claim.variants, groups, strict=True)]
        interval = _simultaneous(claim, measured)
        judged = _judge(claim, sides, margin_of(measured.setting.invocations), level, interval, as_claimed=not differs)
        if judged.status != "not measured":
            judged = _with_executions(judged, groups)
            unseen = (MADE_WITH, OTHER_BASELINE)  # not shown in the header
            made_with = [words for words in differs if words.startswith(unseen)]
            looked_at = DROPPED_RULE if was_dropped(measured.setting.invocations) else ""
            judged = replace(judged, why=joined(judged.why, *made_with, looked_at))
            numbers = _numbers(judged, sides, keys, measured) | ({"level": None} if interval is not None else {})
    return JudgedClaim(
        ablation=ablation,
        claim=claim,
        judgement=judged,
        **_question(measured.ablation, claim),
        setting=measured.setting,
        protocol=measured.protocol,
        differs=differs,
        measured=numbers,
        damage=tuple(each.damage for each in cells if each.damage is not None),
    )


def _conditions(measured: _Measured) -> Conditions:
    latest = measured.setting.latest
    return Conditions(
        scale=latest.scale,
        protocol=measured.protocol,
        data=latest.data.name,
        is_cifar10=latest.data.kind == "cifar10",
        overrides=latest.overrides,
        has_other_baseline=measured.has_other_baseline,
    )


def _side(name: str, own: list[CellResult], keys: tuple[str, ...]) -> ClaimSide:
    diverged = frozenset(each.asked.seed for each in own if each.state == "diverged")
    return ClaimSide(
        name=name, values=by_seed(own, *keys), states=Counter(each.state for each in own), diverged=diverged
    )


def _judge(
    claim: Claim, sides: list[ClaimSide], margin: float, level: float, interval: Interval | None, *, as_claimed: bool
) -> Judgement:
    tolerance = (claim.tolerance or 0.0) / 100
    if claim.relation == "reaches":
        assert claim.accuracy is not None  # validated when the claim is created
        return judge_accuracy(
            sides[0], accuracy=claim.accuracy / 100, tolerance=tolerance, level=level, as_claimed=as_claimed
        )
    return judge_difference(
        claim.relation,
        *sides,
        margin=margin,
        level=level,
        size=claim.size / 100 if claim.size is not None else None,
        tolerance=tolerance,
        as_claimed=as_claimed,
        lower_is_better=claim.metric in LESS_IS_BETTER,
        interval=interval,
        chance=None if claim.metric in LESS_IS_BETTER else CHANCE,
    )


def _with_executions(judged: Judgement, groups: list[list[CellResult]]) -> Judgement:
    """Add a note if the cells were not all executed alike; `compare` marks their rows."""
    if are_executed_alike(itertools.chain.from_iterable(groups)):
        return judged
    return replace(judged, why=joined(judged.why, "executions are mixed"))


def _numbers(judged: Judgement, sides: list[ClaimSide], keys: tuple[str, ...], measured: _Measured) -> dict[str, Any]:
    latest, found = measured.setting.latest, judged.difference
    return {
        "words": judged.words,
        "metric": " or ".join(keys),
        "difference": found.mean if found is not None else None,
        "accuracy": judged.mean,
        "interval": found.interval if found is not None else judged.interval,
        "level": found.level if found is not None else judged.level,
        "pairs": found.pairs if found is not None else None,
        "margin": margin_of(measured.setting.invocations),
        "n": {side.name: len(side.values) for side in sides},
        "means": {side.name: summarise(side.values).mean for side in sides},
        "cells": {side.name: dict(side.states) for side in sides},
        "scale": latest.scale,
        "protocol": measured.protocol,
        "data": latest.data.name,
        "overrides": latest.overrides,
        "invocation": latest.id,
        "invocations": len(measured.setting.invocations),
    }

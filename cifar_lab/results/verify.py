"""Judge the claims of an ablation from the records on disk."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cifar_lab.ablation.ablation import Ablation, Claim, diff_in_words
from cifar_lab.config.overrides import as_words
from cifar_lab.errors import TrackingError
from cifar_lab.results.cell_results import CellResult, are_executed_alike, by_seed, group, read_cell_results
from cifar_lab.results.comparison import MIXED
from cifar_lab.results.contrasts import NO_LOOK, design_of, looks_taken, margin_of, rule_of, was_dropped
from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.claims import ClaimSide, Judgement, Status, joined, judge_accuracy, judge_difference
from cifar_lab.results.stats.decision import CHANCE
from cifar_lab.results.stats.moderated import moderated_intervals
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.results.stats.paired import Interval
from cifar_lab.results.stats.replicates import differences_by_seed, summarise
from cifar_lab.store.cell_record import CellRecord, advice_on_damage
from cifar_lab.store.invocation import MODERATED
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.selection import Selection, select

NO_SUBJECT = frozenset({"train.protocol", "train.precision"})
"""Overrides ignored when matching a claim: protocol is compared separately, precision is machine-dependent."""
NOT_RUN = "not run"
DROPPED_RULE = "a stopping rule was dropped: not protected against looking"
MADE_WITH = "made with"
"""Prefix of a note on settings of a claim that its ablation's baseline does not have."""


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """One claim of an ablation, with its judgement."""

    ablation: str
    claim: Claim
    judgement: Judgement
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
        found = {"status": self.status, "why": self.judgement.why, "differs": list(self.differs)}
        found |= {"damage": list(self.damage)}
        return {**named, **found, "measured": dict(self.measured) if self.measured is not None else None}


Pair = tuple[str, str, str]
"""A metric and two variants in alphabetical order: the difference is the first less the second."""


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A setting, with its cells as stored on disk."""

    setting: Selection
    cells: Mapping[str, list[CellResult]]
    """Replicates by variant."""
    protocol: str
    level: float
    """Confidence of the interval of each difference: those of all claims hold together."""
    intervals: Mapping[Pair, Interval] = field(default_factory=dict)
    """The simultaneous intervals of differences, where the setting's design is moderated."""

    def look(self, variants: Sequence[str]) -> tuple[list[list[CellResult]], float] | None:
        """Return the cells of `variants`, and the confidence level for judging them.

        With a stopping rule, these are the cells of the last complete look; None before the first. A single variant is
        judged by itself, the differences of all claims jointly.
        """
        groups = [self.cells.get(name, []) for name in variants]
        rule, level = rule_of(self.setting.invocations), self.level if len(variants) > 1 else CONFIDENCE
        if rule is None or not all(groups):
            return groups, level
        taken = looks_taken(rule, *groups)
        if not taken:
            return None
        seeds = range(rule.looks[taken - 1])
        first = [[each for each in own if each.asked.seed in seeds] for own in groups]
        return first, group_sequential.levels(rule.looks, 1 - level)[taken - 1]


def judge_claims(
    runs: Path, ablation: Ablation, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None,
) -> list[JudgedClaim]:  # fmt: skip
    """Judge each claim of `ablation` in the requested setting.

    Without a request, the setting that the claims speak of is used if a cell of it is finished; else the latest without
    overrides; else the latest. Claims without a matching run are "not measured".

    Raises:
        TrackingError: notes or records in `runs` cannot be read, or `invocation` is not among them.
    """
    if not read_index(runs).of_ablation(ablation.name):
        return _unmeasured(ablation, NOT_RUN)
    try:
        setting = select(runs, ablation.name, scale=scale, data=data, overrides=overrides, invocation=invocation)
    except TrackingError as error:  # the notes were readable above, so none of them matches
        if invocation is not None:
            raise
        return _unmeasured(ablation, str(error))
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

    A claim about this scale, this protocol and CIFAR-10 counts 2 if its recipe matches exactly, and 1 if only some of
    its `under` settings are missing.
    """
    latest, met = setting.latest, 0
    for claim in ablation.claims:
        missing = claim.missing(latest.overrides)
        alike = set(latest.overrides) <= NO_SUBJECT | (claim.under.keys() - missing.keys())
        there = (latest.scale, latest.protocol, latest.data.kind) == (claim.scale, claim.protocol, "cifar10")
        met += (1 if missing else 2) if alike and there else 0
    return met


def _has_finished(setting: Selection, runs: Path) -> bool:
    return any(CellRecord(runs / asked.fingerprint).state() == "finished" for asked in setting.cells)


def judge_setting(ablation: Ablation, setting: Selection, runs: Path) -> list[JudgedClaim]:
    """Judge each claim of `ablation` from the records of one setting in `runs`."""
    replicates = read_cell_results(setting.cells, runs)
    measured = _Measured(
        setting=setting,
        cells=group(replicates),
        protocol=_protocol(setting, replicates),
        level=per_comparison(CONFIDENCE, sum(claim.worse is not None for claim in ablation.claims)),
    )
    if design_of(setting.invocations) == MODERATED:
        measured = replace(measured, intervals=_moderated(ablation.claims, measured))
    return [_find(ablation.name, claim, measured) for claim in ablation.claims]


def _pair(claim: Claim) -> Pair:
    """Return the difference that a claim speaks of; claims that turn it around speak of the same one."""
    first, second = sorted(claim.variants)
    return claim.metric, first, second


def _simultaneous(claim: Claim, measured: _Measured) -> Interval | None:
    """Return the simultaneous interval of what a claim says is ahead less the other; None without one."""
    interval = measured.intervals.get(_pair(claim)) if claim.worse is not None else None
    if interval is None:
        return None
    ahead = claim.worse if claim.metric == "gap" else claim.better
    return interval if ahead == _pair(claim)[1] else (-interval[1], -interval[0])


def _moderated(claims: Sequence[Claim], measured: _Measured) -> dict[Pair, Interval]:
    """Return the moderated intervals of the differences that claims speak of; those of one metric hold together."""
    intervals: dict[Pair, Interval] = {}
    by_metric: dict[str, dict[Pair, list[float]]] = {}
    for claim in claims:
        if claim.worse is None:
            continue
        pair, keys = _pair(claim), _keys(claim, measured.protocol)
        first, second = (by_seed(measured.cells.get(name, []), *keys) for name in pair[1:])
        by_metric.setdefault(claim.metric, {})[pair] = list(differences_by_seed(first, second).values())
    for by_pair in by_metric.values():
        common = set.intersection(*(set(pair[1:]) for pair in by_pair))
        named = {str(pair): pair for pair in by_pair}
        moderated = moderated_intervals(
            {name: by_pair[pair] for name, pair in named.items()}, "control" if common else "any"
        )
        intervals |= {named[name]: each.interval for name, each in moderated.items()}
    return intervals


def _unmeasured(ablation: Ablation, why: str) -> list[JudgedClaim]:
    judged = Judgement(status="not measured", why=why)
    return [JudgedClaim(ablation=ablation.name, claim=claim, judgement=judged) for claim in ablation.claims]


def _protocol(setting: Selection, replicates: Sequence[CellResult]) -> str:
    """Return the common protocol of all cells, or `MIXED`; an invocation records only that of its first cell."""
    latest = setting.latest.protocol
    trained = {each.cell.recipe.train.protocol for each in replicates if each.cell is not None}
    return MIXED if trained - {latest} else latest


def _find(ablation: str, claim: Claim, measured: _Measured) -> JudgedClaim:
    differs = _differs(claim, measured)
    looked, numbers = measured.look(claim.variants), None
    judged = Judgement(status="not measured", why=NO_LOOK)
    if looked is not None:
        groups, level = looked
        keys = _keys(claim, measured.protocol)
        sides = [_side(name, own, keys) for name, own in zip(claim.variants, groups, strict=True)]
        interval = _simultaneous(claim, measured)
        judged = _judge(claim, sides, margin_of(measured.setting.invocations), level, interval, as_claimed=not differs)
        if judged.status != "not measured":
            judged = _with_executions(judged, groups)
            made_with = [words for words in differs if words.startswith(MADE_WITH)]  # not shown in the header
            looked_at = DROPPED_RULE if was_dropped(measured.setting.invocations) else ""
            judged = replace(judged, why=joined(judged.why, *made_with, looked_at))
            numbers = _numbers(judged, sides, keys, measured) | ({"level": None} if interval is not None else {})
    return JudgedClaim(
        ablation=ablation,
        claim=claim,
        judgement=judged,
        setting=measured.setting,
        protocol=measured.protocol,
        differs=differs,
        measured=numbers,
        damage=tuple(_damage(claim, measured)),
    )


def _damage(claim: Claim, measured: _Measured) -> Iterator[str]:
    for each in (each for name in claim.variants for each in measured.cells.get(name, [])):
        if each.damage is not None:
            yield f"{each.asked.variant}/s{each.asked.seed}: {each.damage}; {advice_on_damage(each.asked.fingerprint)}"


def _differs(claim: Claim, measured: _Measured) -> tuple[str, ...]:
    latest = measured.setting.latest
    missing = claim.missing(latest.overrides)
    alike = NO_SUBJECT | (claim.under.keys() - missing.keys())
    other = {path: value for path, value in latest.overrides.items() if path not in alike}
    found = [f"scale {latest.scale}"] if latest.scale != claim.scale else []
    found += [f"protocol {measured.protocol}"] if measured.protocol != claim.protocol else []
    found += [f"data {latest.data.name}"] if latest.data.kind != "cifar10" else []
    found += [f"{MADE_WITH} {diff_in_words(missing)}"] if missing else []
    return (*found, *as_words(other))


def _keys(claim: Claim, protocol: str) -> tuple[str, ...]:
    """Return the names in a result of the metric that the claim is about."""
    if claim.metric == "convergence":
        return ("val/auc", "test/auc")
    if claim.metric == "gap":
        return ("gap",)
    return ("test/peak_acc",) if protocol == "writeup" else ("test/acc",)


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
        lower_is_better=claim.metric == "gap",
        interval=interval,
        chance=None if claim.metric == "gap" else CHANCE,
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

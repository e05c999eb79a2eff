"""Compute how likely each claim of an ablation is to be settled by the seeds that are asked for, before training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.ablation.ablation import Ablation, Claim, Metric
from cifar_lab.config.scale import baseline_identity, find_scale
from cifar_lab.results.cell_results import CellResult, by_seed, group, read_cell_results, with_curve_metrics
from cifar_lab.results.claim_families import ClaimFamily, Pair, claim_families, family_key
from cifar_lab.results.claim_setting import FROM_CURVES, Conditions, metric_keys
from cifar_lab.results.stats.claim_power import FEASIBLE, ClaimDesign, TrueClaim
from cifar_lab.results.stats.claims import AS_CLAIMED_ONLY
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
from cifar_lab.results.stats.paired import Values
from cifar_lab.results.stats.power import POWER
from cifar_lab.results.stats.replicates import differences_by_seed
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.text import many

FEWEST_DEGREES = 2
"""Fewest degrees of freedom with which a stored deviation is used in place of the assumed one."""
ASSUMED_POINTS: Mapping[Metric, tuple[float, float, float]] = {
    "accuracy": (0.15, 0.3, 2.0),
    "convergence": (0.3, 0.3, 2.0),
    "early convergence": (0.9, 0.9, 2.5),
    "gap": (0.2, 0.2, 0.6),
    "oscillation": (0.2, 0.2, 0.2),
}
"""Deviation of a cell over seeds in points, at `writeup`, at `small`, and at shorter scales, where none is stored."""
FROM_THEORY = "assumed: √(ε / 2N) of independent errors, ε = 4.1 % of N = 10,000 (Jordan, arXiv:2304.01910)"
FROM_SMALL = "assumed: cells of fewer_epochs at scale small (docs/results)"
FROM_SHORT = "assumed: cells of one to three epochs (docs/results)"
NOT_ASKED = "not all of its variants are asked for"
ADDED = "seeds are added until all is decided"
INFEASIBLE = f"no feasible number of seeds settles it: more than {FEASIBLE} for {POWER:.0%}".replace("%", " %")


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Standard deviation over seeds, as a fraction: of a cell, and of the paired difference of two."""

    cell: float
    difference: float
    source: str
    """Stored cells that it is computed from, or the source of the assumption."""


@dataclass(frozen=True, kw_only=True)
class ClaimPower:
    """Probability that a claim which is true is called supported; numbers are fractions, None where not computed."""

    claim: Claim
    seeds: int
    """Seeds of each variant that are asked for."""
    power: float | None = None
    difference: float | None = None
    """True difference that is assumed: the claimed size, else the margin; 0 for variants that are alike."""
    deviation: float | None = None
    """Deviation of the paired differences; for an accuracy that is reached, that of a cell."""
    source: str = ""
    """Source of the deviation."""
    method: str | None = None
    """`moderated` or `student`."""
    seeds_needed: int | None = None
    """Seeds with power 0.8; None if `FEASIBLE` are too few."""
    detectable: float | None = None
    """Smallest difference that the seeds settle with power 0.8, of a claim without a number."""
    why: str = ""
    """Reason why nothing is computed."""

    @property
    def is_feasible(self) -> bool:
        """Tell whether a feasible number of seeds settles the claim."""
        return self.seeds_needed is not None

    @property
    def words(self) -> str:
        """Return `14 % with 3 seeds at 0.20 points, 9 seeds for 80 %; 3 seeds settle 0.62 points`."""
        if self.power is None:
            return self.why
        at = f" at {100 * self.difference:.2f} points" if self.difference else ""
        share = f"{100 * self.power:.0f} %" if self.power >= 0.01 else "under 1 %"
        chance = f"{share} with {many(self.seeds, 'seed')}{at}"
        needed = f"{self.seeds_needed} seeds for {100 * POWER:.0f} %" if self.is_feasible else INFEASIBLE
        least = self.detectable
        settle = f"; {many(self.seeds, 'seed')} settle {100 * least:.2f} points" if least is not None else ""
        return f"{chance}, {needed}{settle if self.seeds > 1 else ''}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of the JSON; differences and deviations are fractions of accuracy."""
        return {
            "seeds": self.seeds,
            "power": self.power,
            "difference": self.difference,
            "deviation": self.deviation,
            "source": self.source or None,
            "method": self.method,
            "seeds_needed": self.seeds_needed,
            "feasible": self.is_feasible if self.power is not None else None,
            "detectable": self.detectable,
            "words": self.words,
        }


def claim_powers(
    ablation: Ablation, conditions: Conditions, *, seeds: int, margin: float, runs: Path,
    data_hash: str | None = None, baseline: str | None = None,
    variants: Iterable[str] | None = None, moderated: bool = True, stopping: bool = False,
) -> list[ClaimPower]:  # fmt: skip
    """Return the power of each claim of `ablation`, in the order of the claims.

    Args:
        ablation: ablation with the claims.
        conditions: setting in which they are to be judged.
        seeds: seeds of each variant.
        margin: difference that does not matter, as a fraction.
        runs: folder whose cells of the same baseline, scale, data and overrides give the deviation.
        data_hash: hash of the data; None: any data of the same kind.
        baseline: baseline of the stored cells (`baseline_identity`); None: the one of the ablation.
        variants: variants that are asked for; None: all.
        moderated: the intervals of several differences are moderated, else Student's.
        stopping: seeds are added until all is decided; then no power is computed.
    """
    if not ablation.claims:
        return []
    asked = None if variants is None else set(variants)
    notes, cells = _stored(ablation, conditions, runs, data_hash, baseline)
    families = claim_families(ablation)
    deviations = {
        metric: _deviation(metric, ablation, conditions, notes, cells, runs)
        for metric in dict.fromkeys(claim.metric for claim in ablation.claims)
    }
    powers = []
    for claim in ablation.claims:
        family = families[family_key(ablation, claim)] if claim.worse is not None else None
        why = _excluded(claim, conditions, asked, stopping=stopping)
        powers.append(
            ClaimPower(claim=claim, seeds=seeds, why=why)
            if why
            else _power(claim, conditions, family, deviations[claim.metric], seeds, margin, moderated=moderated)
        )
    return powers


def setting_deviation(
    metric: Metric, ablation: Ablation, conditions: Conditions, *, runs: Path, data_hash: str | None = None
) -> Deviation:
    """Return the deviation of a metric over seeds in a setting: that of stored cells, else the assumed one."""
    notes, cells = _stored(ablation, conditions, runs, data_hash)
    return _deviation(metric, ablation, conditions, notes, cells, runs)


def _stored(
    ablation: Ablation, conditions: Conditions, runs: Path, data_hash: str | None, baseline: str | None = None
) -> tuple[list[Invocation], dict[str, list[CellResult]]]:
    """Return the invocations in `runs` with the same setting as `conditions`, and their cells by recipe."""
    baseline = baseline or baseline_identity(ablation.baseline, find_scale(conditions.scale))
    notes = _same_setting(baseline, conditions, read_index(runs).invocations, data_hash)
    return notes, _cells(notes, runs)


def _excluded(claim: Claim, conditions: Conditions, asked: set[str] | None, *, stopping: bool) -> str:
    """Return the reason why no power is computed; empty if one is."""
    if asked is not None and not asked.issuperset(claim.variants):
        return NOT_ASKED
    if claim.relation == "reaches" and conditions.differs(claim):
        return AS_CLAIMED_ONLY
    return ADDED if stopping else ""


def _power(
    claim: Claim, conditions: Conditions, family: ClaimFamily | None, deviation: Deviation, seeds: int, margin: float,
    *, moderated: bool,
) -> ClaimPower:  # fmt: skip
    true = _true(claim, margin, elsewhere=bool(conditions.differs(claim)))
    own = deviation.cell if family is None else deviation.difference
    pooled = len(family.pairs) if family is not None and moderated and len(family.pairs) > 1 else None
    design = ClaimDesign(
        pairs=seeds,
        deviation=own,
        level=family.level if family is not None else CONFIDENCE,
        moderated=pooled,
        kind=family.kind if family is not None else "control",
    )
    return ClaimPower(
        claim=claim,
        seeds=seeds,
        power=true.power(design),
        difference=true.difference,
        deviation=own,
        source=deviation.source,
        method="moderated" if pooled is not None else "student",
        seeds_needed=true.seeds_needed(design),
        detectable=true.detectable(design) if seeds > 1 else None,
    )


def _true(claim: Claim, margin: float, *, elsewhere: bool) -> TrueClaim:
    """Return the claim with the truth that is assumed: its number, else the smallest difference that matters."""
    size = claim.size / 100 if claim.size is not None else None
    difference = 0.0
    if claim.relation == "better":
        difference = size if size is not None else margin
    return TrueClaim(
        relation=claim.relation,
        difference=difference,
        margin=margin,
        size=None if elsewhere else size,
        tolerance=(claim.tolerance or 0.0) / 100,
        direction_only=elsewhere,
    )


def _same_setting(
    baseline: str, conditions: Conditions, notes: Iterable[Invocation], data_hash: str | None
) -> list[Invocation]:
    """Return the invocations, of any ablation, with this baseline and the same scale, protocol, data and overrides."""
    return [
        note
        for note in notes
        if (note.baseline, note.scale, note.protocol) == (baseline, conditions.scale, conditions.protocol)
        and note.overrides == dict(conditions.overrides)
        and (note.data.hash == data_hash if data_hash else (note.data.kind == "cifar10") == conditions.is_cifar10)
    ]


def _cells(notes: Sequence[Invocation], runs: Path) -> dict[str, list[CellResult]]:
    """Return the cells of invocations by the digest of their recipe, each fingerprint once."""
    asked = {cell.fingerprint: cell for note in notes for cell in note.cells}
    groups: dict[str, list[CellResult]] = {}
    for each in read_cell_results(asked.values(), runs):
        groups.setdefault(each.asked.recipe, []).append(each)
    return groups


def _deviation(
    metric: Metric, ablation: Ablation, conditions: Conditions, notes: Sequence[Invocation],
    cells: Mapping[str, list[CellResult]], runs: Path,
) -> Deviation:  # fmt: skip
    """Return the deviation of a metric: pooled over the stored cells, else the assumed one."""
    keys = metric_keys(metric, conditions.protocol)
    if metric in FROM_CURVES:
        cells = {recipe: [with_curve_metrics(each, runs) for each in own] for recipe, own in cells.items()}
    values = {recipe: by_seed(own, *keys) for recipe, own in cells.items()}
    cell, degrees = _pooled(values.values())
    if degrees < FEWEST_DEGREES or cell <= 0:
        return _assumed(metric, conditions.scale)
    names = ", ".join(dict.fromkeys(note.ablation for note in notes))
    source = f"{many(sum(map(len, values.values())), 'stored cell')} of {names}"
    own = group(each for note in notes if note.ablation == ablation.name for each in _of(note, cells))
    pairs = {pair for family in claim_families(ablation).values() if family.metric == metric for pair in family.pairs}
    paired, degrees = _pooled(_differences(pairs, {name: by_seed(each, *keys) for name, each in own.items()}))
    known = degrees >= FEWEST_DEGREES and paired > 0
    return Deviation(cell=cell, difference=paired if known else cell * math.sqrt(2), source=source)


def _of(note: Invocation, cells: Mapping[str, list[CellResult]]) -> Iterable[CellResult]:
    """Return the results of the cells of one invocation."""
    wanted = {cell.fingerprint for cell in note.cells}
    return (each for own in cells.values() for each in own if each.asked.fingerprint in wanted)


def _differences(pairs: Iterable[Pair], values: Mapping[str, Values]) -> list[Values]:
    """Return the paired differences by seed of each pair."""
    return [differences_by_seed(values.get(first, {}), values.get(second, {})) for first, second in pairs]


def _pooled(groups: Iterable[Values]) -> tuple[float, int]:
    """Return the pooled standard deviation within groups of two values or more, and its degrees of freedom."""
    squares, degrees = 0.0, 0
    for values in groups:
        if len(values) >= 2:
            mean = sum(values.values()) / len(values)
            squares += sum((value - mean) ** 2 for value in values.values())
            degrees += len(values) - 1
    return (math.sqrt(squares / degrees), degrees) if degrees else (0.0, 0)


def _assumed(metric: Metric, scale: str) -> Deviation:
    """Return the assumed deviation at a scale; differences as if variants were not correlated over seeds."""
    name, slash, _ = scale.partition("/")
    place = 0 if name == "writeup" else 1 if name == "small" and not slash else 2
    cell = ASSUMED_POINTS[metric][place] / 100
    source = FROM_SHORT if place == 2 else FROM_THEORY if metric == "accuracy" and place == 0 else FROM_SMALL
    return Deviation(cell=cell, difference=cell * math.sqrt(2), source=source)

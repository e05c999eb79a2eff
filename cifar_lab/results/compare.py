"""Comparisons of variants from the records on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.results.cell_results import CellResult, group, read_cell_results
from cifar_lab.results.comparison import MIXED, Comparison
from cifar_lab.results.comparison_rows import make_rows
from cifar_lab.results.contrasts import design_of, make_effects, margin_before, margin_of, prior_of, stopping_summary
from cifar_lab.results.declaration import redeclared
from cifar_lab.results.final_metrics import headline_metric
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.record_files import Hardware, Provenance
from cifar_lab.store.selection import Selection, select, typed


def compare(
    runs: Path, ablation: str, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None, now: Ablation | None = None,
) -> Comparison:  # fmt: skip
    """Compare the variants of `ablation` in the setting of its latest matching invocation, or of the one with an id.

    All invocations of that setting are read together: seeds that were added later join the earlier ones.
    `now`: the declaration of that name, if there is one; the comparison says where it has been changed since.

    Raises:
        TrackingError: nothing in `runs` matches.
    """
    setting = select(runs, ablation, scale=scale, data=data, overrides=overrides, invocation=invocation)
    return tabulate(setting, runs, now)


def tabulate(setting: Selection, runs: Path, now: Ablation | None = None) -> Comparison:
    """Build the comparison of one setting from its records in `runs`; `now` as in `compare`."""
    same, latest = setting.invocations, setting.latest
    replicates = [_with_pruning(each, latest) for each in read_cell_results(setting.cells, runs)]
    protocol = common_protocol(latest, replicates)
    metric = latest.metric or headline_metric(protocol)
    rows, margin, of = make_rows(same, replicates, metric), margin_of(same), group(replicates)
    compared = [row for row in rows if row.against is not None]
    has_prior = len(compared) == 1 and compared[0].critical is not None
    return Comparison(
        ablation=latest.ablation,
        scale=latest.scale,
        protocol=protocol,
        metric=metric,
        control=latest.control,
        data=latest.data.name,
        overrides=latest.overrides,
        invocation=latest.id,
        invocations=len(same),
        chain=any(latest.compared_with(cell.variant) not in {None, latest.control} for cell in latest.cells),
        rows=rows,
        margin=margin,
        margin_before=margin_before(same),
        confidence=CONFIDENCE,
        comparisons=len(compared),
        design=design_of(same),
        prior=prior_of(same, metric) if has_prior else None,
        effects=make_effects(same, of, metric, margin),
        stopping=stopping_summary(same, of),
        others=tuple(f"--invocation {other.id} ({typed(other)})" for other in setting.others),
        redeclared=redeclared(setting, now),
        damage=tuple(_damage(latest, replicates, runs)),
        made=tuple(_made(latest, replicates)),
    )


def _damage(latest: Invocation, replicates: Sequence[CellResult], runs: Path) -> list[str]:
    """Describe the damage of cells, by name, and of this ablation's notes, which may have asked for more cells."""
    cells = [each.damage for each in replicates if each.damage is not None]
    lost = "cells that only this note asked for are not here"
    notes = [f"{error}; {lost}" for error in read_index(runs).damage_of(latest.ablation)]
    return [*cells, *notes]


def _with_pruning(replicate: CellResult, latest: Invocation) -> CellResult:
    """Return the replicate, marked as pruned if a search stopped it early."""
    is_pruned = replicate.state == "missing" and latest.is_pruned(replicate.asked.fingerprint)
    return replace(replicate, is_pruned=is_pruned)


def common_protocol(latest: Invocation, replicates: Sequence[CellResult]) -> str:
    """Return the common protocol of all cells, or `MIXED`; an invocation records only that of its first cell."""
    trained = {each.cell.recipe.train.protocol for each in replicates if each.cell is not None}
    return MIXED if trained - {latest.protocol} else latest.protocol


def _made(latest: Invocation, replicates: Sequence[CellResult]) -> list[str]:
    """Return the commands, hardware, versions and times of the cells, as recorded when they were trained."""
    cells = [each.cell for each in replicates if each.cell is not None]
    provenances = [cell.provenance for cell in cells if cell.provenance != Provenance()]
    results = [each.result for each in replicates if each.result is not None]
    lines = [f"command: `{latest.command}`"]
    lines += sorted({f"hardware: {_hardware(entry.hardware)}" for entry in provenances})
    lines += sorted({f"execution: {_words(cell.execution.as_json())}" for cell in cells})
    lines += sorted({f"versions: {_words(entry.versions)}" for entry in provenances})
    lines += sorted({f"code: {_commit(entry)}" for entry in provenances})
    if results:
        days = sorted({f"{datetime.fromtimestamp(result.time / 1000, UTC):%Y-%m-%d}" for result in results})
        hours = sum(result.metrics.get("seconds", 0.0) for result in results) / 3600
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        cells_ended = "1 cell" if len(results) == 1 else f"{len(results)} cells"
        lines.append(f"{cells_ended}, {hours:.1f} hours of training in all, {when}")
    return lines


def _hardware(hardware: Hardware) -> str:
    gpus = ", ".join(hardware.gpus) or "no GPU"
    return f"{hardware.processor}, {hardware.cores} cores, {hardware.memory_gib} GiB, {gpus}"


def _commit(provenance: Provenance) -> str:
    commit = provenance.git_commit
    return (commit[:12] if commit else "not a checkout") + (
        " with changes that were not committed" if provenance.git_dirty else ""
    )


def _words(tree: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in tree.items() if value is not None)

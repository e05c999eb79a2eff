"""From what cells left on disk to a comparison of variants."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifar_lab.errors import TrackingError, nearest
from cifar_lab.report.comparison import MIXED, Comparison
from cifar_lab.run.rows import Replicate, make_rows, read
from cifar_lab.tracking.invocation import Invocation, read_all, unite


def compare(
    runs: Path, ablation: str, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None,
) -> Comparison:  # fmt: skip
    """The variants of `ablation` in the setting of its latest invocation, of the latest that matches, or of one by id.

    All invocations of that setting are read together: seeds that were added later join the earlier ones.

    Raises:
        TrackingError: nothing in `runs` matches.
    """
    own, matching = _select(runs, ablation, scale, data, overrides, invocation)
    same = [entry for entry in own if entry.setting() == matching[-1].setting()]
    latest, replicates = same[-1], read(unite(same), runs)
    protocol = _protocol(latest, replicates)
    metric = "test/peak_acc" if protocol == "writeup" else "test/acc"
    return Comparison(
        ablation=ablation,
        scale=latest.scale,
        protocol=protocol,
        metric=metric,
        control=latest.control,
        data=latest.data["name"],
        overrides=latest.overrides,
        invocation=latest.id,
        invocations=len(same),
        chain=any(latest.compared_with(cell.variant) not in {None, latest.control} for cell in latest.cells),
        rows=make_rows(same, replicates, metric),
        others=tuple(_others([entry for entry in matching if entry.setting() != latest.setting()])),
        made=tuple(_made(latest, replicates)),
    )


def _select(
    runs: Path, ablation: str, scale: str | None, data: str | None, overrides: Mapping[str, Any] | None, id: str | None
) -> tuple[list[Invocation], list[Invocation]]:
    """The invocations of `ablation`, and those among them that match; both the oldest first."""
    everything = read_all(runs)
    own = [entry for entry in everything if entry.ablation == ablation]
    if not own:
        run = sorted({entry.ablation for entry in everything})
        raise TrackingError(f"'{ablation}' has not been run in {runs}{nearest(ablation, run)}")
    if id is not None:
        return own, [_named(id, own, everything)]
    matching = [entry for entry in own if _matches(entry, scale, data, overrides)]
    if not matching:
        raise TrackingError(f"'{ablation}' was run as {'; '.join(_settings(own))}, never as asked for")
    return own, matching


def _named(id: str, own: list[Invocation], everything: list[Invocation]) -> Invocation:
    for entry in everything:
        if entry.id == id:
            if entry in own:
                return entry
            raise TrackingError(f"--invocation {id}: of '{entry.ablation}', not of '{own[0].ablation}'")
    raise TrackingError(f"--invocation {id}: no such invocation{nearest(id, [entry.id for entry in own])}")


def _protocol(latest: Invocation, replicates: Sequence[Replicate]) -> str:
    """The one of all cells, or `MIXED`: an invocation notes that of its first cell."""
    trained = {str(each.cell["recipe"]["train"]["protocol"]) for each in replicates if each.cell is not None}
    return MIXED if trained - {latest.protocol} else latest.protocol


def _made(latest: Invocation, replicates: Sequence[Replicate]) -> list[str]:
    """Command, hardware, versions and time behind the cells, as each cell wrote them down when it was trained."""
    cells = [each.cell for each in replicates if each.cell is not None]
    provenances = [cell["provenance"] for cell in cells if cell.get("provenance")]
    results = [each.result for each in replicates if each.result is not None]
    lines = [f"command: `{latest.command}`"]
    lines += sorted({f"hardware: {_hardware(entry['hardware'])}" for entry in provenances if "hardware" in entry})
    lines += sorted({f"execution: {_words(cell['execution'])}" for cell in cells})
    lines += sorted({f"versions: {_words(entry['versions'])}" for entry in provenances if "versions" in entry})
    lines += sorted({f"code: {_commit(entry)}" for entry in provenances})
    if results:
        days = sorted({f"{datetime.fromtimestamp(result['time'] / 1000, UTC):%Y-%m-%d}" for result in results})
        hours = sum(result["metrics"].get("seconds", 0.0) for result in results) / 3600
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        lines.append(f"{len(results)} cells, {hours:.1f} hours of training in all, {when}")
    return lines


def _hardware(found: Mapping[str, Any]) -> str:
    gpus = ", ".join(found.get("gpus") or []) or "no GPU"
    return f"{found.get('processor')}, {found.get('cores')} cores, {found.get('memory_gib')} GiB, {gpus}"


def _commit(provenance: Mapping[str, Any]) -> str:
    commit = provenance.get("git_commit") or "not a checkout"
    return commit[:12] + (" with changes that were not committed" if provenance.get("git_dirty") else "")


def _words(tree: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in tree.items() if value is not None)


def _matches(invocation: Invocation, scale: str | None, data: str | None, overrides: Mapping[str, Any] | None) -> bool:
    known = {invocation.data["kind"], invocation.data["name"], invocation.data["source"]}
    return (
        (scale is None or invocation.scale == scale)
        and (data is None or data in known or str(Path(data).resolve()) in known)
        and (not overrides or invocation.overrides == dict(overrides))
    )


def _settings(invocations: list[Invocation]) -> list[str]:
    """One line a setting, as it is typed."""
    return list(dict.fromkeys(_typed(entry) for entry in invocations))


def _others(invocations: list[Invocation]) -> list[str]:
    """One line a setting, with the id of its latest invocation: what was typed need not tell it from the others."""
    latest = {entry.setting(): entry for entry in invocations}
    return [f"--invocation {entry.id} ({_typed(entry)})" for entry in latest.values()]


def _typed(entry: Invocation) -> str:
    overrides = [f"{path}={json.dumps(value, separators=(',', ':'))}" for path, value in entry.overrides.items()]
    return " ".join([f"--scale {entry.scale} --data {entry.data['source']}", *overrides])

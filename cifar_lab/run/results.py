"""From what cells left on disk to a comparison of variants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifar_lab.errors import TrackingError, nearest
from cifar_lab.report.tables import Comparison, Row
from cifar_lab.run.summary import THRESHOLDS
from cifar_lab.stats.convergence import epochs_to, rise
from cifar_lab.stats.replicates import paired_difference, summarise
from cifar_lab.tracking.invocation import Asked, Invocation, read_all, unite
from cifar_lab.tracking.journal import read_points
from cifar_lab.tracking.record import Record


def compare(
    runs: Path, ablation: str, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None,
) -> Comparison:  # fmt: skip
    """The variants of `ablation` in the setting of its latest invocation, of the latest that matches, or of one by id.

    All invocations of that setting are read together: seeds that were added later join the earlier ones.

    Raises:
        TrackingError: nothing in `runs` matches.
    """
    everything = read_all(runs)
    own = [invocation for invocation in everything if invocation.ablation == ablation]
    if invocation is not None:
        own = own[: 1 + _position(own, invocation)]
    matching = [entry for entry in own if _matches(entry, scale, data, overrides)]
    if not own:
        run = sorted({invocation.ablation for invocation in everything})
        raise TrackingError(f"'{ablation}' has not been run in {runs}{nearest(ablation, run)}")
    if not matching:
        raise TrackingError(f"'{ablation}' was run as {'; '.join(_settings(own))}, never as asked for")
    latest = matching[-1]
    same = [invocation for invocation in own if invocation.setting() == latest.setting()]
    metric = "test/peak_acc" if latest.protocol == "writeup" else "test/acc"
    return Comparison(
        ablation=ablation,
        scale=latest.scale,
        protocol=latest.protocol,
        metric=metric,
        control=latest.control,
        data=latest.data["name"],
        overrides=latest.overrides,
        invocation=latest.id,
        invocations=len(same),
        chain=any(latest.compared_with(cell.variant) not in {None, latest.control} for cell in latest.cells),
        rows=_rows(same, runs, metric),
        others=tuple(_settings([entry for entry in matching if entry.setting() != latest.setting()])),
        made=tuple(_made(latest, [Record(runs / cell.fingerprint) for cell in unite(same)])),
    )


def _position(own: list[Invocation], id: str) -> int:
    ids = [invocation.id for invocation in own]
    if id not in ids:
        raise TrackingError(f"--invocation {id}: no such invocation{nearest(id, ids)}")
    return ids.index(id)


def _made(latest: Invocation, records: list[Record]) -> list[str]:
    """Command, hardware, versions and time behind the cells, as each cell wrote them down when it was trained."""
    cells = [cell for record in records if (cell := record.cell()) is not None]
    provenances = [cell["provenance"] for cell in cells if cell.get("provenance")]
    results = [result for record in records if (result := record.result()) is not None]
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
    """One line a setting, the latest invocation of each."""
    latest = {invocation.setting(): invocation for invocation in invocations}
    return [
        f"--scale {entry.scale} --data {entry.data['source']}"
        + "".join(f" {path}={json.dumps(value, separators=(',', ':'))}" for path, value in entry.overrides.items())
        for entry in latest.values()
    ]


def _rows(same: list[Invocation], runs: Path, metric: str) -> tuple[Row, ...]:
    cells, against = unite(same), same[-1].compared_with
    fullest = max(same, key=lambda invocation: len({cell.variant for cell in invocation.cells}))
    variants = list(dict.fromkeys(cell.variant for cell in (*fullest.cells, *cells)))
    of = {name: [cell for cell in cells if cell.variant == name] for name in variants}
    values = {name: _values(of[name], runs, metric) for name in variants}
    rows = []
    for name in variants:
        other = against(name)
        row = _row(of[name], runs, values[name], values.get(other) if other is not None else None, other)
        row = replace(row, **_convergence(of[name], of.get(other or "", []), runs))
        ways = _executions(of[name], runs) | (_executions(of.get(other, []), runs) if other is not None else set())
        rows.append(replace(row, mixed_execution=len(ways) > 1))
    return tuple(rows)


def _executions(cells: list[Asked], runs: Path) -> set[str]:
    """The different ways in which these cells were run."""
    trees = (Record(runs / cell.fingerprint).cell() for cell in cells)
    return {str(tree["execution"]) for tree in trees if tree is not None}


def _values(cells: list[Asked], runs: Path, metric: str) -> dict[int, float]:
    """The metric by seed, of the cells that reached their end and have it."""
    return _by_seed(_finished(cells, runs), (metric,))


def _row(
    cells: list[Asked], runs: Path, values: dict[int, float], control: dict[int, float] | None, against: str | None
) -> Row:
    records = [Record(runs / cell.fingerprint) for cell in cells]
    states = [record.state() for record in records]
    ended = [result["metrics"] for record in records if (result := record.result()) is not None]
    own, paired = summarise(values), paired_difference(values, control or {})
    return Row(
        variant=cells[0].variant,
        against=against,
        n=own.n,
        mean=own.mean,
        std=own.std,
        difference=None if against is None else paired.mean,
        difference_std=None if against is None else paired.std,
        interval=None,
        p_value=None,
        verdict=None,
        pairs=0 if against is None else paired.n,
        missing=states.count("missing"),
        running=states.count("running"),
        failed=states.count("failed"),
        diverged=states.count("diverged"),
        mixed_execution=False,
        parameters=cells[0].parameters,
        parameters_trained=cells[0].parameters_trained,
        macs=cells[0].macs,
        seconds=_mean([metrics["seconds"] for metrics in ended]),
        images_seen=_mean([metrics["images_seen"] for metrics in ended]),
    )


def _convergence(cells: list[Asked], others: list[Asked], runs: Path) -> dict[str, Any]:
    """Speed and generalisation of the finished cells, and the differences by seed to what they are compared with."""
    finished, before = _finished(cells, runs), _finished(others, runs)
    found: dict[str, Any] = {
        "epochs_to": {
            str(x): epochs_to(metrics.get(f"epochs_to/{x}") for metrics in finished.values()) for x in THRESHOLDS
        },
        "rises": tuple(value for cell in cells if (value := _rise(Record(runs / cell.fingerprint))) is not None),
    }
    for name, keys in {"gap": ("gap",), "auc": ("val/auc", "test/auc")}.items():
        own, against = _by_seed(finished, keys), _by_seed(before, keys)
        found[name], found[f"{name}_difference"] = summarise(own).mean, paired_difference(own, against).mean
    return found


def _finished(cells: list[Asked], runs: Path) -> dict[int, dict[str, float]]:
    """The metrics by seed of the cells that reached their end."""
    results = {cell.seed: Record(runs / cell.fingerprint).result() for cell in cells}
    return {
        seed: found["metrics"] for seed, found in sorted(results.items()) if found and found["status"] == "finished"
    }


def _by_seed(finished: Mapping[int, Mapping[str, float]], keys: tuple[str, ...]) -> dict[int, float]:
    return {seed: metrics[key] for seed, metrics in finished.items() for key in keys if key in metrics}


def _rise(record: Record) -> float | None:
    """From the result, or from the journal of a cell that was finished before results held it."""
    result = record.result()
    if result is None or result["status"] != "finished":
        return None
    if "rise" in result["metrics"]:
        return float(result["metrics"]["rise"])
    curves = ([point.values.get(name) for point in read_points(record.folder)] for name in ("val/acc", "test/acc"))
    whole = ([value for value in curve if value is not None] for curve in curves)
    return next((rise(curve) for curve in whole if curve), None)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

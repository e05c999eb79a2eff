"""Summary of an invocation in its MLflow run: states of its cells, comparison table, links to their runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from cifar_lab.mlflow_sync import run_fields, ui_view
from cifar_lab.mlflow_sync.cell_sync import CellUpload
from cifar_lab.mlflow_sync.client import TAG, MLflowStore
from cifar_lab.mlflow_sync.run_fields import MetricPoint
from cifar_lab.mlflow_sync.server_errors import ArtifactsRefused
from cifar_lab.mlflow_sync.tag_names import NOTED, SETTLED, WITHOUT_FILES
from cifar_lab.mlflow_sync.upload_target import Say, UploadTarget
from cifar_lab.results.final_metrics import headline_metric
from cifar_lab.store import search_data
from cifar_lab.store.cell_record import ENDED, CellRecord, State
from cifar_lab.store.invocation import Invocation
from cifar_lab.text import markdown, printable

ROOM = 200
"""Characters reserved for the line that says what was left out."""


def no_files() -> Mapping[str, str]:
    """Return no files."""
    return {}


class ComparisonFiles(NamedTuple):
    """Comparison of an invocation's variants, in several formats."""

    markdown: str
    csv: str
    files: Callable[[], Mapping[str, str]] = no_files
    """Returns further files, by name (`report.html`); called only if they are needed."""


Tabulate = Callable[[Invocation], ComparisonFiles | None]
"""Function that returns the table of an invocation's setting; None if it cannot be made."""


def no_table(invocation: Invocation) -> None:  # noqa: ARG001 (a Tabulate)
    """Return no table; for a runner that makes none."""
    return


def end(store: MLflowStore, place: UploadTarget, invocation: Invocation, shipments: Sequence[CellUpload]) -> None:
    """Set the final status of an invocation's run, unless one of its cells is still being trained."""
    states = [_state(shipment) for shipment in shipments]
    if "running" in states:
        return
    if search_data.is_search(invocation):  # a failed trial is replaced by another one
        states = [state for state in states if state != "failed"] or states
        store.tag(place.parent, {name: run_fields.of_invocation(invocation).tags[name] for name in search_data.LATEST})
    ended = all(state in ENDED | {"pruned"} for state in states)
    status = "FINISHED" if ended else "FAILED" if "failed" in states else "KILLED"
    times = [int(mark.partition(" ")[0]) for shipment in shipments if (mark := shipment.mark()) is not None]
    store.end(place.parent, status, max([invocation.time, *times]))


def _state(shipment: CellUpload) -> State:
    """Return the state of a cell, including that given by a search's note."""
    state = shipment.record.state()
    is_pruned = state == "missing" and shipment.invocation.is_pruned(shipment.asked.fingerprint)
    return "pruned" if is_pruned else state


def settle(store: MLflowStore, place: UploadTarget, invocation: Invocation, shipments: Sequence[CellUpload]) -> None:
    """Record that the store has everything of an invocation, once it has, so that a repeated request need not check
    each cell."""
    if all(shipment.is_settled for shipment in shipments) and shipments:
        state = state_of(shipments[0].runs, invocation)
        if place.found is None or place.found.tags.get(SETTLED) != state:
            store.tag(place.parent, {SETTLED: state})


def state_of(runs: Path, invocation: Invocation) -> str:
    """Return a digest of the final states of an invocation's cells: the time of each result."""
    ends = {cell.fingerprint: CellRecord(runs / cell.fingerprint).result() for cell in invocation.cells}
    times = sorted((name, result.time if result is not None else None) for name, result in ends.items())
    return hashlib.sha256(json.dumps(times).encode()).hexdigest()[:16]


def add_note(
    store: MLflowStore,
    place: UploadTarget,
    invocation: Invocation,
    shipments: Sequence[CellUpload],
    tabulate: Tabulate,
    say: Say,
) -> None:
    """Add note and table to the run of an invocation, unless it has them; an existing table is kept."""
    table = _table(invocation, tabulate, say)
    if table is None and place.found is not None and NOTED in place.found.tags:
        return
    written = parent_note(invocation, table, place.experiment, shipments)
    parts = (written, *((table.markdown, table.csv) if table is not None else ()))
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    remarks = {name: run_fields.of_invocation(invocation).tags[name] for name in invocation.remarks}
    if place.found is not None and place.found.tags.get(NOTED) == digest:
        return
    store.log(place.parent, means(invocation, shipments))
    if table is not None:
        made = {"comparison.md": table.markdown, "comparison.csv": table.csv, **_files(invocation, table, say)}
        try:
            store.upload(place.parent, [], {name: text.encode() for name, text in made.items()})
        except ArtifactsRefused:  # reported for the cells already; the note is useful by itself
            store.tag(place.parent, {**remarks, run_fields.NOTE: written, NOTED: WITHOUT_FILES})
            return
    store.tag(place.parent, {**remarks, run_fields.NOTE: written, NOTED: digest})


def means(invocation: Invocation, shipments: Sequence[CellUpload]) -> list[MetricPoint]:
    """Return the mean accuracy of each variant over its finished seeds, and its mean paired difference.

    `mean/test/acc/r4` and `delta/test/acc/r4`, as fractions. A search uses `val/acc`, as for its cells.
    """
    metric = invocation.metric or headline_metric(invocation.protocol)
    results = {(each.asked.variant, each.asked.seed): each.record.result() for each in shipments if not each.is_damaged}
    finished = {key: result for key, result in results.items() if result is not None and metric in result.metrics}
    values = {key: result.metrics[metric] for key, result in finished.items()}
    time = max([invocation.time, *(result.time for result in finished.values())])
    made = []
    for variant in dict.fromkeys(name for name, _ in values):
        other = invocation.compared_with(variant)
        seeds = [seed for name, seed in values if name == variant]
        paired = [values[variant, seed] - values[other, seed] for seed in seeds if other and (other, seed) in values]
        name = metric + "/" + re.sub(r"[^\w./ -]", "_", variant)
        made.append(MetricPoint(f"mean/{name}", round(fmean(values[variant, seed] for seed in seeds), 9), time, 0))
        if paired:
            made.append(MetricPoint(f"{run_fields.DELTA}{name}", round(fmean(paired), 9), time, 0))
    return made


def parent_note(
    invocation: Invocation, table: ComparisonFiles | None, experiment: str, shipments: Sequence[CellUpload]
) -> str:
    """Return a Markdown note within the length of a tag: the table, the command, and a link to the run of each cell.

    If it would be too long, links are left out first, then the table, which is also an artifact; the note says so. The
    result comes first, because the UI folds everything after the first lines.
    """
    text = run_fields.heading(invocation)
    noted = sum(map(len, run_fields.user_note(invocation)))
    if table is not None and noted + len(text) + len(table.markdown) < TAG - ROOM:
        blocks = table.markdown.strip().split("\n\n")
        result = next((block for block in blocks if block.startswith("|")), blocks[0])
        text = "\n\n".join([result, text, *(block for block in blocks if block != result)])
    elif table is not None:
        text += "\n\nThe table is too long for a note: see the artifact `comparison.md`."
    text = "\n\n".join([*run_fields.user_note(invocation), text])
    return text + _links(experiment, shipments, TAG - ROOM - len(text))


def _links(experiment: str, shipments: Sequence[CellUpload], room: int) -> str:
    """Return one line of links per variant, as many as fit into `room` characters."""
    lines: dict[str, str] = {}
    for shipment in shipments:
        if shipment.run is not None:
            asked = shipment.asked
            seen = lines.get(asked.variant, f"- {markdown(asked.variant)}:")
            lines[asked.variant] = f"{seen} [s{asked.seed}]({ui_view.run_link(experiment, shipment.run)})"
    text, left = "", len(lines)
    for line in lines.values():
        if len(text) + len(line) + 1 > room:
            more = f"- {left} more variants have no room here: see the table of this experiment's runs"
            return f"\n\nCells:\n{text}\n{more}"
        text, left = f"{text}\n{line}", left - 1
    return f"\n\nCells:\n{text}" if text else ""


def _table(invocation: Invocation, tabulate: Tabulate, say: Say) -> ComparisonFiles | None:
    try:
        return tabulate(invocation)
    except Exception as error:  # noqa: BLE001 (a table is not worth a result; it is said)
        say(printable(f"{invocation.id}: no table: {type(error).__name__}: {error}"))
        return None


def _files(invocation: Invocation, table: ComparisonFiles, say: Say) -> Mapping[str, str]:
    try:
        return table.files()
    except Exception as error:  # noqa: BLE001 (nor is a page; it is said)
        say(printable(f"{invocation.id}: no report: {type(error).__name__}: {error}"))
        return {}

"""Names, tags, params and metrics of MLflow runs, for an invocation and for a cell."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cifar_lab.mlflow_sync.tag_names import BEGAN, BELOW
from cifar_lab.redaction import redacted
from cifar_lab.store.invocation import CellRef, Invocation
from cifar_lab.store.journal import JournalPoint
from cifar_lab.store.record_files import CellFile, Provenance, ResultFile
from cifar_lab.text import code, many, markdown, printable

NOTE = "mlflow.note.content"
"""Tag that MLflow's UI renders as the description of a run or an experiment."""
DELTA = "delta/"
"""Prefix of a metric's difference from the reference cell, which has the same seed."""
COMPARED = ("test/acc", "test/acc_without_tta", "test/peak_acc", "val/acc", "val/auc", "test/auc", "gap", "seconds")
"""Metrics with a delta, in addition to each `epochs_to/…`."""


class MetricPoint(NamedTuple):
    """One value of a metric; its step is an epoch, its time is in ms."""

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True, kw_only=True)
class DatasetPart:
    """Part of a data set that a run trains or is evaluated on."""

    part: str
    """`train`, `val` or `test`."""
    name: str
    digest: str
    """Hash of the data and of the rule that selects the part."""
    context: str
    """Purpose, in MLflow's words."""
    source: Mapping[str, str]
    """Kind and hash of the whole data, and the rule."""


@dataclass(frozen=True, kw_only=True)
class RunFields:
    """Initial data of a run."""

    name: str
    identity: Mapping[str, str]
    """Tags that identify the run, set when it is created."""
    tags: Mapping[str, str]
    params: Mapping[str, str]
    time: int
    parent: str | None = None
    data: tuple[DatasetPart, ...] = ()
    """Parts of the data that the run uses."""


def experiment_note(invocation: Invocation) -> str:
    """Return the description of an experiment in Markdown, with foreign text escaped."""
    lines = [markdown(line) for line in invocation.question.splitlines()]
    return "\n\n".join([*lines, f"Factors: {', '.join(map(markdown, invocation.factors))}"])


def of_invocation(invocation: Invocation) -> RunFields:
    """Return the sheet of the parent run of an invocation."""
    count = len(invocation.cells)
    tags = {
        "ablation": invocation.ablation,
        "scale": invocation.scale,
        "protocol": invocation.protocol,
        "data": invocation.data.name,
        "control": invocation.control,
        "factors": list(invocation.factors),
        "overrides": invocation.overrides,
        "command": invocation.command,
        "cells": count,
        **invocation.remarks,
        **_code(invocation.provenance),
        **_dotted("execution", invocation.execution.as_json() if invocation.execution is not None else {}),
    }
    return RunFields(
        name=invocation_name(invocation),
        identity=_texts({"role": "invocation", "invocation": invocation.id}),
        tags={**invocation.labels, **_texts(tags), NOTE: "\n\n".join([*user_note(invocation), heading(invocation)])},
        params={},
        time=invocation.time,
    )


def invocation_name(invocation: Invocation) -> str:
    """Return a readable name: `small · CIFAR-10 · 5 variants × 3 seeds`."""
    variants, seeds = ({getattr(cell, name) for cell in invocation.cells} for name in ("variant", "seed"))
    shape = f"{many(len(variants), 'variant')} × {many(len(seeds), 'seed')}"
    if len({(cell.variant, cell.seed) for cell in invocation.cells}) != len(variants) * len(seeds):
        shape = many(len(invocation.cells), "cell")
    return printable(" · ".join([invocation.scale, invocation.data.name, shape]))


def user_note(invocation: Invocation) -> list[str]:
    """Return the user's text, in Markdown, as a list of one block, or an empty list."""
    lines = [printable(redacted(line)) for line in invocation.note.splitlines()]
    return ["\n".join(lines)] if invocation.note.strip() else []


def heading(invocation: Invocation) -> str:
    """Return the beginning of a parent run's description, in Markdown."""
    command = code(invocation.command)
    remarks = "".join(f"\n\n{name}: {markdown(words)}" for name, words in invocation.remarks.items())
    return f"{command}\n\nCells: {len(invocation.cells)}. Control: {markdown(invocation.control)}.{remarks}"


def of_cell(
    invocation: Invocation, asked: CellRef, cell: CellFile | None, *, began: int | None, time: int, parent: str
) -> RunFields:
    """Return the child run of a cell, from its `cell.json` and the time in ms at which its training began.

    Both are None for a cell that failed early: the sheet then has fewer entries, and `time` is the start of the run.
    """
    tags = {
        "ablation": invocation.ablation,
        "variant": asked.variant,
        "seed": asked.seed,
        "scale": invocation.scale,
        "protocol": invocation.protocol,
        "data": invocation.data.name,
        "control": asked.variant == invocation.control,
        **_sizes(asked),
        **(_circumstances(cell) if cell is not None else {}),
    }
    return RunFields(
        name=printable(f"{asked.variant}/s{asked.seed}"),
        identity={
            "role": "cell",
            "fingerprint": asked.fingerprint,
            BEGAN: _text(began),
            BELOW: invocation.id,
        },
        tags={**invocation.labels, **_texts(tags), "status": "running"},
        params=params_of(cell, asked),
        time=began if began is not None else time,
        parent=parent,
        data=datasets_of(cell) if cell is not None else (),
    )


def params_of(cell: CellFile | None, asked: CellRef) -> dict[str, str]:
    """Return the recipe of a cell by dotted path, with variant, seed and sizes."""
    params = cell.recipe.resolve().flat() if cell is not None else {}
    params |= {"variant": asked.variant, "seed": asked.seed}
    params |= _sizes(asked)  # also tags, but the UI shows only params for groups of runs
    return _texts(params)


def datasets_of(cell: CellFile) -> tuple[DatasetPart, ...]:
    """Return the parts of a cell's data: train and test, and val where its protocol holds images out."""
    recipe = cell.recipe.resolve()
    holds_out = recipe.train.protocol != "writeup"
    held_out = {"val_fraction": str(recipe.data.val_fraction), "split_seed": str(recipe.data.split_seed)}
    rules = {"train": dict(held_out), "val": held_out, "test": {}} if holds_out else {"train": {}, "test": {}}
    if recipe.data.train_fraction != 1:
        rules["train"] |= {"train_fraction": str(recipe.data.train_fraction), "split_seed": str(recipe.data.split_seed)}
    contexts = {"train": "training", "val": "validation", "test": "test"}
    parts = []
    for part, how in rules.items():
        source = {"kind": cell.data.kind, "sha256": cell.data.hash, "part": part, **how}
        digest = hashlib.sha256(json.dumps([cell.data.hash, part, how], sort_keys=True).encode()).hexdigest()
        name = f"{printable(cell.data.name)} {part}"
        parts.append(DatasetPart(part=part, name=name, digest=digest[:32], context=contexts[part], source=source))
    return tuple(parts)


def recipe_json(cell: CellFile) -> str:
    """Return the recipe of a cell as JSON text."""
    return json.dumps(cell.recipe.tree, indent=1) + "\n"


def metrics_of(points: Iterable[JournalPoint]) -> list[MetricPoint]:
    """Return all values of the points of some epochs."""
    return [
        MetricPoint(name, value, point.time, point.epoch)
        for point in points
        for name, value in point.values.items()
        if math.isfinite(value)
    ]


def metrics_of_result(result: ResultFile, curves: Iterable[str]) -> list[MetricPoint]:
    """Return the metrics of `result.json`. One with the name of a curve is called `final/<name>`.

    So `test/acc` is always the test accuracy, whether it is measured once or each epoch.
    """
    taken = set(curves)
    return [
        MetricPoint(f"final/{name}" if name in taken else name, value, result.time, result.epoch)
        for name, value in result.metrics.items()
        if math.isfinite(value)
    ]


def metrics_of_difference(result: ResultFile, reference: ResultFile, *, since: int) -> list[MetricPoint]:
    """Return the differences of a cell's result from its reference's; empty unless both are finished.

    Accuracies and their differences are fractions. The time in ms is that of the later result, or `since`, the time of
    the comparison, if later: values sent again are stored once, and replaced values count as newer.
    """
    if not (result.is_finished and reference.is_finished):
        return []
    own, other = result.metrics, reference.metrics
    time = max(result.time, reference.time, since)
    names = [name for name in own if name in other and (name in COMPARED or name.startswith("epochs_to/"))]
    differences = {name: round(own[name] - other[name], 9) for name in names}  # no rounding error from 0.9 - 0.88
    return [MetricPoint(DELTA + name, value, time, result.epoch) for name, value in differences.items()]


def _sizes(asked: CellRef) -> dict[str, int]:
    return {"parameters": asked.parameters, "parameters_trained": asked.parameters_trained, "macs": asked.macs}


def _circumstances(cell: CellFile) -> dict[str, object]:
    return {
        **_code(cell.provenance),
        **_dotted("version", cell.provenance.versions),
        **_dotted("hardware", cell.provenance.hardware.as_json()),
        **_dotted("execution", cell.execution.as_json()),
    }


def _code(provenance: Provenance) -> dict[str, object]:
    commit = provenance.git_commit
    source = {"mlflow.source.git.commit": commit} if commit else {}
    return {"git_commit": commit, "git_dirty": provenance.git_dirty, "mlflow.source.name": "cifar-lab", **source}


def _dotted(prefix: str, tree: Mapping[str, object]) -> dict[str, object]:
    return {f"{prefix}.{key}": value for key, value in tree.items()}


def _texts(tree: Mapping[str, object]) -> dict[str, str]:
    return {key: _text(value) for key, value in tree.items()}


def _text(value: object) -> str:
    """Return a value as a user would type it, in one printable line: `none`, `true`, `[4, 4, 3]`."""
    if isinstance(value, str):
        return printable(redacted(value))
    return "none" if value is None else redacted(json.dumps(value))

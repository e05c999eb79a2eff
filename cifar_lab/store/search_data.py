"""Filter the data of a search that a tracking store gets: nothing measured on test, so that nobody selects by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cifar_lab.store import checksum, journal
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.record_files import ResultFile

TEST = "test/"
KEPT = {"status", "epoch", "step", "time"}
"""Fields of `result.json` besides its metrics that do not depend on test results."""
LATEST = ("command", "cells", "control")
"""Tags of the run of a study that change whenever its command is run again."""


def is_search(invocation: Invocation) -> bool:
    """Tell whether the invocation belongs to a search, which compares cells on val."""
    return (invocation.metric or "").startswith("val/")


def files(record: CellRecord) -> list[Path]:
    """Return the existing files of a trial's cell that hold nothing measured on test.

    Predictions and the confusion matrix belong to test images. `shown_result` replaces `result.json`.
    """
    log = record.folder / journal.FILE
    every = [record.folder / "cell.json", log, record.weights, record.code_diff]
    return [path for path in every if record.fetch(path) and not (path == log and b'"test/' in checksum.content(path))]


def shown_result(result: ResultFile | None) -> dict[str, bytes]:
    """Return `result.json` without test metrics, as an artifact; empty without a result."""
    if result is None:
        return {}
    metrics = {name: value for name, value in result.metrics.items() if TEST not in name}
    tree = {**result.model_dump(mode="json", include=KEPT), "metrics": metrics}
    return {"result.json": (json.dumps(tree, indent=1) + "\n").encode()}


def shown_pictures(pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the pictures without test results: the curves are of val, the confusion matrix is not."""
    return {path: content for path, content in pictures.items() if not Path(path).name.startswith("confusion")}

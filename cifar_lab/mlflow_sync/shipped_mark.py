"""Identity of what a cell's record holds, as the tag `SHIPPED_TO` of its run has it once the store has everything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from cifar_lab.mlflow_sync.client import ExistingRun
from cifar_lab.mlflow_sync.tag_names import SHIPPED_TO
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import JournalReader
from cifar_lab.store.record_files import FailureFile, ResultFile

REWRITTEN_MS = 60_000
"""Time in ms after the end of a cell from which a write of its result counts as a later one."""


def is_shipped(record: CellRecord, found: ExistingRun, mark: str | None) -> bool:
    """Tell whether a run has all of a record whose content is `mark`.

    Runs of an earlier version have the time of a result alone. If `result.json` was written later, files may have been
    replaced together with it, such as predictions that got their logits, and they count as not shipped.
    """
    tag, time = found.tags.get(SHIPPED_TO), mark.partition(" ")[0] if mark is not None else None
    if tag == mark or tag is None or tag != time:
        return tag == mark
    return 1000 * (record.folder / "result.json").stat().st_mtime < int(tag) + REWRITTEN_MS


def whole_run(record: CellRecord, there: Iterable[ExistingRun], mark: str | None) -> ExistingRun | None:
    """Return the first run that has all of a record whose content is `mark`; another training has another mark."""
    return next((run for run in there if is_shipped(record, run, mark)), None)


def result_mark(result: ResultFile) -> str:
    """Return the time of a result, with a digest of the files that it names, if it names any."""
    digest = hashlib.sha256(json.dumps(sorted(result.files.items())).encode()).hexdigest()[:12]
    return f"{result.time} {digest}" if result.files else str(result.time)


def record_mark(result: ResultFile | None, failure: FailureFile | None, reader: JournalReader) -> str | None:
    """Return the mark of a result, or else the time of the latest failure or line of the journal; None without any."""
    if result is not None:
        return result_mark(result)
    times = [time for time in (reader.latest, failure.time if failure is not None else None) if time is not None]
    return str(max(times)) if times else None

"""Resume training from a checkpoint, or from the beginning if the checkpoint or journal is damaged.

Training resumes only from verified state: an intact checkpoint of this cell, and a journal without damaged lines that
has the metrics of every epoch before it. Otherwise both are set aside under another name, the new journal records that,
and the cell starts again; the result is the same, since it depends only on recipe, seed and data.
"""

from __future__ import annotations

from typing import Any

from cifar_lab.errors import CellError, DamageError
from cifar_lab.store import journal
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal, JournalReader
from cifar_lab.train import checkpoint


def state_to_go_on_from(record: CellRecord) -> dict[str, Any] | None:
    """Return the state that training of `record` resumes from; None to start anew. The caller must hold the lock.

    Raises:
        OSError: damaged files cannot be renamed.
    """
    state, why = None, ""
    try:
        state = checkpoint.load_checkpoint(record.checkpoint, record.fingerprint)
    except CellError as error:
        why = str(error).removeprefix(f"{record.checkpoint}: ")
    if (bad := journal_damage(record, state)) is not None:
        begin_anew(record, **({"checkpoint.pt": why} if why else {}), **{journal.FILE: bad})
        return None
    if why:
        begin_anew(record, **{"checkpoint.pt": why})
    return state


def journal_damage(record: CellRecord, state: dict[str, Any] | None) -> str | None:
    """Describe what the journal lacks to resume from `state`, or from the beginning; None if it is complete."""
    reader = JournalReader(record.folder)
    try:
        written = {point.epoch for point in reader.poll()} | {point.epoch for point in reader.pending}
    except DamageError as error:
        return str(error).removeprefix(f"{record.journal}: ")
    if reader.damage:
        return reader.damage[0]
    return missing_epoch(written, state["counters"]["epoch"] if state is not None else 0)


def missing_epoch(written: set[int], epochs: int) -> str | None:
    """Name the first of `epochs` epochs without metrics in a journal; None if all have them."""
    missing = [epoch for epoch in range(1, epochs + 1) if epoch not in written]
    return f"the metrics of epoch {missing[0]} are not there" if missing else None


def begin_anew(record: CellRecord, **damaged: str) -> None:
    """Set damaged files of an unfinished cell aside, and record their names and damage in its journal.

    A checkpoint is useless without the journal before it, and is set aside with it.
    """
    kept = {}
    if journal.FILE in damaged and record.checkpoint.exists() and record.checkpoint.name not in damaged:
        damaged = {**damaged, record.checkpoint.name: "goes with its journal"}
    for name in damaged:
        if (record.folder / name).exists():
            kept[name] = record.keep_aside(record.folder / name).name
    log = Journal(record.folder)
    for name, why in damaged.items():
        log.write("damaged", file=name, kept=kept.get(name), why=why)

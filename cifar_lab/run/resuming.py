"""Where a training goes on: at its checkpoint, or at the beginning where checkpoint or journal are damaged.

A training goes on only from what provably stands: a checkpoint as it was written, of this cell, and a journal without a
damaged line that has the metrics of every epoch before it. Otherwise both are kept aside under another name, the new
journal says so, and the cell begins anew: it comes to the numbers of an undisturbed training, for nothing else decides
them but recipe, seed and data.
"""

from __future__ import annotations

from typing import Any

from cifar_lab.errors import CellError, DamageError
from cifar_lab.tracking import journal
from cifar_lab.tracking.journal import Journal, Reader
from cifar_lab.tracking.record import Record
from cifar_lab.train import checkpoint


def state_to_go_on_from(record: Record) -> dict[str, Any] | None:
    """Return the state that a training of `record` goes on from; None where it begins anew. For the lock's holder.

    Raises:
        OSError: damaged files cannot be renamed.
    """
    state, why = None, ""
    try:
        state = checkpoint.load(record.checkpoint, record.fingerprint)
    except CellError as error:
        why = str(error).removeprefix(f"{record.checkpoint}: ")
    if (bad := journal_damage(record, state)) is not None:
        begin_anew(record, **({"checkpoint.pt": why} if why else {}), **{journal.FILE: bad})
        return None
    if why:
        begin_anew(record, **{"checkpoint.pt": why})
    return state


def journal_damage(record: Record, state: dict[str, Any] | None) -> str | None:
    """Return what the journal lacks for going on from `state`, or from the beginning; None where it lacks nothing."""
    reader = Reader(record.folder)
    try:
        written = {point.epoch for point in reader.poll()} | {point.epoch for point in reader.pending}
    except DamageError as error:
        return str(error).removeprefix(f"{record.journal}: ")
    if reader.damage:
        return reader.damage[0]
    return missing_epoch(written, state["counters"]["epoch"] if state is not None else 0)


def missing_epoch(written: set[int], epochs: int) -> str | None:
    """Return which of the first `epochs` epochs has no metrics in a journal; None where all have."""
    missing = [epoch for epoch in range(1, epochs + 1) if epoch not in written]
    return f"the metrics of epoch {missing[0]} are not there" if missing else None


def begin_anew(record: Record, **damaged: str) -> None:
    """Keep damaged files of an unfinished cell aside, and write into its journal which they are, and why.

    A checkpoint is of no use without the journal before it, and goes with it.
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

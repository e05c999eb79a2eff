"""Find and delete files that are no longer needed: old checkpoints, partial files, superseded records.

Results, journals and weights are never deleted, nor anything of a cell that is being trained.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from cifar_lab.errors import DamageError, UsageError
from cifar_lab.store.cell_record import DAMAGED_SUFFIX, ENDED, CellRecord
from cifar_lab.store.journal import FILE, JournalReader

Kind = Literal["checkpoint", "leftover", "superseded", "damaged"]
DAMAGED = "damaged"
"""Folder that `fsck --repair` moves damaged files to, with a subfolder for each time."""
SUPERSEDED = "superseded"
"""Folder that a redo moves records to, as `<fingerprint>.<ms since 1970>`."""
UNITS = {"h": 3600.0, "d": 86400.0}
IN_USE = 3600.0
"""Seconds for which a partial file without a lock may still be in use."""


@dataclass(frozen=True, kw_only=True)
class CleanupItem:
    """One file or folder that can be deleted."""

    kind: Kind
    path: Path
    size: int
    """Size in bytes."""
    touched: float
    """Last write of the file, or of the journal beside a checkpoint, or setting aside; in seconds since 1970."""
    epoch: int = 0
    """Epochs of progress that are lost with a checkpoint."""
    cell: CellRecord | None = None
    """Cell whose lock is held during the deletion; None if the file belongs to no cell."""
    stored: str = ""
    """Address on an object store (`s3://…/superseded/…`), of which `path` is the copy; empty in a plain folder."""
    etags: tuple[str, ...] = ()
    """Versions of a checkpoint on a store and of the journal beside it."""

    @property
    def place(self) -> str:
        """Address or path at which it is."""
        return self.stored or str(self.path)

    def as_dict(self) -> dict[str, Any]:
        fingerprint = self.cell.fingerprint if self.cell is not None else None
        named = {"kind": self.kind, "path": self.place, "bytes": self.size, "fingerprint": fingerprint}
        return {**named, "epoch": self.epoch, "touched": round(self.touched * 1000)}


def parse_age(text: str) -> float:
    """Convert an age such as `12h` or `7d` to seconds.

    Raises:
        UsageError: the text has another form.
    """
    if not re.fullmatch(r"[0-9]{1,6}[hd]", text):
        raise UsageError(f"--older-than reads 12h, 7d or 0d, got '{text}'")
    return int(text[:-1]) * UNITS[text[-1]]


def find_items(runs: Path, older_than: float) -> list[CleanupItem]:
    """Return the files and folders in `runs` that can be deleted.

    `older_than`: age in seconds beyond which checkpoints and superseded records are considered abandoned.
    """
    latest = time.time() - older_than
    cells = (CellRecord(path) for path in sorted(runs.glob("*")) if len(path.name) == 64 and path.is_dir())
    found = [item for record in cells for item in _of_cell(record, latest)]
    loose = _items("leftover", loose_leftovers(runs))
    found += [item for item in loose if item.touched < time.time() - IN_USE]
    found += [item for item in _items("damaged", (runs / DAMAGED).glob("*")) if item.touched <= latest]
    set_aside = (path for path in (runs / SUPERSEDED).glob("*") if _is_replaced(path))
    return [*found, *(item for item in _items("superseded", set_aside) if item.touched <= latest)]


def loose_leftovers(runs: Path) -> list[Path]:
    """Return partial files that belong to no cell: of notes, and of an MLflow database in this folder.

    MLflow's default store is created in the working directory, which usually is the parent of `runs`.
    """
    databases = (path for place in (runs.parent, Path()) for path in place.glob("mlflow.db.*.partial*"))
    return sorted({*(runs / "invocations").glob(".*.partial"), *(path.resolve() for path in databases)})


def _is_replaced(path: Path) -> bool:
    """Tell whether the cell of a superseded record at `path` has ended again; otherwise that record is the only one."""
    fingerprint = path.name.partition(".")[0]
    return len(fingerprint) != 64 or CellRecord(path.parent.parent / fingerprint).state() in ENDED


def _of_cell(record: CellRecord, latest: float) -> Iterator[CleanupItem]:
    """Yield the files of one cell that can be deleted: partial files and a checkpoint not touched since `latest`.

    Nothing is yielded for a cell that is being trained or is damaged.
    """
    partials = sorted(record.folder.glob(".*.partial"))
    had_checkpoint = os.path.lexists(record.checkpoint)
    state = record.state()
    if state in {"running", "damaged"}:  # the remains of a damaged record may be all that there is
        return
    yield from _items("leftover", partials, record)
    is_over = state in ENDED
    if is_over:
        damaged = record.folder.glob(f"*{DAMAGED_SUFFIX}*")
        yield from (item for item in _items("damaged", damaged, record) if item.touched <= latest)
    if had_checkpoint and is_over:  # killed after writing its result, before deleting its checkpoint
        yield from _items("leftover", [record.checkpoint], record)
    elif had_checkpoint:
        try:
            points = JournalReader(record.folder).poll()
        except DamageError:  # how much progress goes with it is not known
            return
        for item in _items("checkpoint", [record.checkpoint], record):
            if item.touched <= latest:
                yield replace(item, epoch=points[-1].epoch if points else 0)


def free(item: CleanupItem) -> str | None:
    """Delete `item`; return the reason if it was kept because its cell was taken up meanwhile.

    Raises:
        OSError: it cannot be deleted.
    """
    try:
        if (item.cell or CellRecord(item.path)).state() == "running":
            return "its cell is trained now"
        with item.cell.lock().acquire(timeout=0) if item.cell is not None else nullcontext():
            if _touched(item.path) > item.touched:
                return "somebody has gone on from it meanwhile"
            if item.kind == "superseded" and not _is_replaced(item.path):
                return "its cell is not finished"
            _delete(item.path)
    except Timeout:
        return "its cell is trained now"
    except FileNotFoundError:  # its cell is finished, or another process is cleaning
        return "it is gone already"
    return None


def _items(kind: Kind, paths: Iterable[Path], cell: CellRecord | None = None) -> Iterator[CleanupItem]:
    for path in sorted(paths):
        with suppress(FileNotFoundError):  # its writer has finished
            yield CleanupItem(kind=kind, path=path, size=_size(path), touched=_touched(path), cell=cell)


def _touched(path: Path) -> float:
    """Return when `path`, or the journal beside a checkpoint, was written, or a record set aside; in Unix seconds."""
    if path.parent.name == SUPERSEDED and (when := set_aside_at(path)) is not None:
        return when  # moving a folder does not change its modification time
    journal = path.parent / FILE
    return (journal if path.name == "checkpoint.pt" and journal.exists() else path).lstat().st_mtime


def set_aside_at(path: Path) -> float | None:
    """Return when a superseded record was set aside, in seconds since 1970, from its name; None for another name."""
    when = re.fullmatch(r"[0-9a-f]{64}\.([0-9]{10,15})", path.name)
    return int(when[1]) / 1000 if when is not None else None


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()

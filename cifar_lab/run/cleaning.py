"""Find and free what is of no more use: abandoned progress, half-written files, what was set aside.

Results, journals and weights are never touched, and nothing of a cell that is trained.
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
from cifar_lab.tracking.journal import FILE, Reader
from cifar_lab.tracking.record import DAMAGED_SUFFIX, Record

Kind = Literal["checkpoint", "leftover", "superseded", "damaged"]
DAMAGED = "damaged"
"""Where `fsck --repair` moves what is damaged, a folder for each time."""
SUPERSEDED = "superseded"
"""Where a redo sets records aside, as `<fingerprint>.<ms since 1970>`."""
UNITS = {"h": 3600.0, "d": 86400.0}
IN_USE = 3600.0
"""Seconds for which a half-written file that no lock protects may still belong to somebody."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file or folder that can be freed."""

    kind: Kind
    path: Path
    size: int
    """Bytes."""
    touched: float
    """Seconds since 1970: when it, or the journal beside a checkpoint, was last written, or a record set aside."""
    epoch: int = 0
    """Epochs of progress that go with a checkpoint."""
    cell: Record | None = None
    """Whose lock is held while it is freed; none: it is nobody's any more."""

    def as_dict(self) -> dict[str, Any]:
        fingerprint = self.cell.fingerprint if self.cell is not None else None
        named = {"kind": self.kind, "path": str(self.path), "bytes": self.size, "fingerprint": fingerprint}
        return {**named, "epoch": self.epoch, "touched": round(self.touched * 1000)}


def parse_age(text: str) -> float:
    """`12h` or `7d`, in seconds.

    Raises:
        UsageError: something else.
    """
    if not re.fullmatch(r"[0-9]{1,6}[hd]", text):
        raise UsageError(f"--older-than reads 12h, 7d or 0d, got '{text}'")
    return int(text[:-1]) * UNITS[text[-1]]


def find_items(runs: Path, older_than: float) -> list[Item]:
    """What can be freed in `runs`.

    `older_than`: seconds after which nobody is expected to go on from a checkpoint, or to miss what a redo set aside.
    """
    latest = time.time() - older_than
    cells = (Record(path) for path in sorted(runs.glob("*")) if len(path.name) == 64 and path.is_dir())
    found = [item for record in cells for item in _of_cell(record, latest)]
    loose = _items("leftover", loose_leftovers(runs))
    found += [item for item in loose if item.touched < time.time() - IN_USE]
    found += [item for item in _items("damaged", (runs / DAMAGED).glob("*")) if item.touched <= latest]
    set_aside = (path for path in (runs / SUPERSEDED).glob("*") if _is_replaced(path))
    return [*found, *(item for item in _items("superseded", set_aside) if item.touched <= latest)]


def loose_leftovers(runs: Path) -> list[Path]:
    """Return half-written files that belong to no cell: of notes, and of MLflow's own database in this folder.

    MLflow's default store lies where a command is typed, which is beside `runs` as a rule.
    """
    databases = (path for place in (runs.parent, Path()) for path in place.glob("mlflow.db.*.partial*"))
    return sorted({*(runs / "invocations").glob(".*.partial"), *(path.resolve() for path in databases)})


def _is_replaced(path: Path) -> bool:
    """Whether the cell whose record a redo set aside at `path` has come to its end again: else it is all there is."""
    fingerprint = path.name.partition(".")[0]
    return len(fingerprint) != 64 or Record(path.parent.parent / fingerprint).state() in {"finished", "diverged"}


def _of_cell(record: Record, latest: float) -> Iterator[Item]:
    """What one cell has, unless it is trained now: a checkpoint not touched since `latest`, half-written files."""
    partials = sorted(record.folder.glob(".*.partial"))
    had_checkpoint = os.path.lexists(record.checkpoint)
    state = record.state()
    if state in {"running", "damaged"}:  # what is left of a damaged record may be all that there is
        return
    yield from _items("leftover", partials, record)
    is_over = state in {"finished", "diverged"}
    if is_over:
        damaged = record.folder.glob(f"*{DAMAGED_SUFFIX}*")
        yield from (item for item in _items("damaged", damaged, record) if item.touched <= latest)
    if had_checkpoint and is_over:  # killed between its result and the end of its checkpoint
        yield from _items("leftover", [record.checkpoint], record)
    elif had_checkpoint:
        try:
            points = Reader(record.folder).poll()
        except DamageError:  # how much progress goes with it is not known
            return
        for item in _items("checkpoint", [record.checkpoint], record):
            if item.touched <= latest:
                yield replace(item, epoch=points[-1].epoch if points else 0)


def free(item: Item) -> str | None:
    """Delete `item`; why it was left, if its cell was taken up meanwhile.

    Raises:
        OSError: it cannot be deleted.
    """
    try:
        if (item.cell or Record(item.path)).state() == "running":
            return "its cell is trained now"
        with item.cell.lock().acquire(timeout=0) if item.cell is not None else nullcontext():
            if _touched(item.path) > item.touched:
                return "somebody has gone on from it meanwhile"
            if item.kind == "superseded" and not _is_replaced(item.path):
                return "its cell is not finished"
            _delete(item.path)
    except Timeout:
        return "its cell is trained now"
    except FileNotFoundError:  # its cell is finished, or somebody else cleans
        return "it is gone already"
    return None


def _items(kind: Kind, paths: Iterable[Path], cell: Record | None = None) -> Iterator[Item]:
    for path in sorted(paths):
        with suppress(FileNotFoundError):  # whoever was writing it has finished
            yield Item(kind=kind, path=path, size=_size(path), touched=_touched(path), cell=cell)


def _touched(path: Path) -> float:
    """When `path` was last written; for a checkpoint, the journal beside it; for a record, when it was set aside."""
    if path.parent.name == SUPERSEDED and (when := re.fullmatch(r"[0-9a-f]{64}\.([0-9]{10,15})", path.name)):
        return int(when[1]) / 1000  # a folder that is moved keeps its own time
    journal = path.parent / FILE
    return (journal if path.name == "checkpoint.pt" and journal.exists() else path).lstat().st_mtime


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()

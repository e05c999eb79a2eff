"""The record of a cell on disk, in `runs/<fingerprint>/`, and the state that follows from it.

    cell.json             what it is: recipe, seed, data, parameters, execution, code
    journal.jsonl         what happened, as it happened
    checkpoint.pt         where it would go on; gone once the cell is finished
    weights.safetensors   the last weights
    predictions.npz       prediction, probability, label and logits (float16) of each test image, and logits and
                          labels of val: about 0.3 MB
    confusion.csv         rows: labels, columns: predictions
    failure.json          traceback of the last attempt, if it failed
    result.json           outcome; written last, and only then is the cell finished
    owner.json            process that trains it, rewritten while it lives: host, machine, process, beat, time
    code.diff             uncommitted changes when the training began, if any

`store.record_files` has the fields of the JSON files. Each of these carries its checksum (see `store.checksum`), and
`result.json` those of the files beside it when the cell ended: `"files": {"weights.safetensors": "<sha256>", …}`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from cifar_lab.errors import DamageError, ObjectStoreError, TrackingError
from cifar_lab.store import cell_owner, checksum, journal
from cifar_lab.store.cell_hold import CellHold, hold_mirrored
from cifar_lab.store.lease import CellLease, LeaseTaken
from cifar_lab.store.mirror import mirror_of
from cifar_lab.store.record_files import CellFile, FailureFile, OwnerFile, ResultFile
from cifar_lab.store.stored_json import read_stored, write_stored

State = Literal["missing", "running", "finished", "failed", "diverged", "pruned", "damaged"]
"""State of a cell. A record itself is never "pruned": a search assigns that to a cell that it stopped early."""
ENDED: frozenset[State] = frozenset({"finished", "diverged"})
"""States of a cell that has ended with a result."""
WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.npz"
DAMAGED_SUFFIX = ".damaged"
"""Suffix of a damaged file that was set aside when its cell was started again."""


@dataclass(frozen=True, kw_only=True)
class CellContent:
    """JSON files of a record, read at one moment, and the state that follows from them; a damaged record has no other.

    The failure of an earlier attempt stays while the cell is trained again.
    """

    state: State
    cell: CellFile | None = None
    result: ResultFile | None = None
    failure: FailureFile | None = None
    damage: str | None = None
    """First damage of the record: file and rule in one line."""


@dataclass(frozen=True)
class CellRecord:
    """Folder of one cell. Reading a cell that was never begun returns None; damaged files raise DamageError."""

    folder: Path

    @property
    def fingerprint(self) -> str:
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def predictions(self) -> Path:
        return self.folder / PREDICTIONS

    @property
    def confusion(self) -> Path:
        return self.folder / "confusion.csv"

    @property
    def code_diff(self) -> Path:
        return self.folder / "code.diff"

    @property
    def journal(self) -> Path:
        return self.folder / journal.FILE

    @property
    def is_begun(self) -> bool:
        """True if the folder holds more than a lock, readable or not, or if something else has its name."""
        if not self.folder.is_dir() and os.path.lexists(self.folder):
            return True
        return any((self.folder / name).exists() for name in ("cell.json", "result.json", "failure.json"))

    def cell(self) -> CellFile | None:
        """Return `cell.json`; None for a cell that was not begun."""
        cell = read_stored(self.folder / "cell.json", CellFile)
        self.require_own(self.folder / "cell.json", cell)
        return cell

    def owner(self) -> OwnerFile | None:
        """Return the current or last owner of the cell."""
        return read_stored(self.folder / cell_owner.FILE, OwnerFile)

    def result(self) -> ResultFile | None:
        """Return `result.json`; None for a cell that has not ended."""
        result = read_stored(self.folder / "result.json", ResultFile)
        self.require_own(self.folder / "result.json", result)
        return result

    def failure(self) -> FailureFile | None:
        """Return `failure.json`, the failure of the last attempt; None if it did not fail."""
        return read_stored(self.folder / "failure.json", FailureFile)

    def require_own(self, path: Path, content: CellFile | ResultFile | None) -> None:
        """Check that the content of `path` does not name another cell; old files may name none.

        Raises:
            DamageError: the file belongs to another cell.
        """
        name = self.fingerprint.partition(".")[0]  # superseded records have a time after the fingerprint
        if content is not None and content.fingerprint not in {None, name}:
            raise DamageError(f"{path}: damaged: the record of another cell, {str(content.fingerprint)[:12]}")

    def require_folder(self) -> None:
        """Check that the cell's path, if it exists, is a readable folder.

        Raises:
            DamageError: it is a file, a broken link, or a folder without read permission.
        """
        try:
            mode = self.folder.stat().st_mode
        except FileNotFoundError:
            if self.folder.is_symlink():
                raise DamageError(f"{self.folder}: damaged: a link to nothing, not a folder") from None
            return
        except OSError as error:
            raise DamageError(f"{self.folder}: cannot be read ({error.strerror or error})") from error
        if not stat.S_ISDIR(mode):
            raise DamageError(f"{self.folder}: damaged: not a folder")
        if not os.access(self.folder, os.R_OK | os.X_OK):
            raise DamageError(f"{self.folder}: cannot be read (Permission denied)")

    def ended(self) -> ResultFile | None:
        """Return `result.json` of a cell that also has its `cell.json`.

        Raises:
            DamageError: `cell.json` is missing although the cell has ended, or one of the two is damaged.
        """
        return self._described()[1]

    def _described(self) -> tuple[CellFile | None, ResultFile | None]:
        """Return `cell.json` and `result.json`; DamageError if only the second exists."""
        result, cell = self.result(), self.cell()
        if result is not None and cell is None and self.result() is not None:  # not just set aside by another process
            raise DamageError(f"{self.folder / 'cell.json'}: damaged: not there, although the cell has ended")
        return cell, result

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 by name of the existing files that a result refers to."""
        files = (self.weights, self.predictions, self.confusion, self.code_diff, self.journal)
        return {path.name: checksum.hash_file(path) for path in files if path.exists()}

    def obstacles(self) -> list[Path]:
        """Return what stands where a training writes a file, and is none: a folder, a device or a pipe."""
        files = (self.folder / "lock", self.weights, self.predictions, self.confusion, self.code_diff)
        return [path for path in files if path.exists() and not path.is_file()]

    def fetch(self, path: Path) -> bool:
        """Tell whether a file of the record is there, after bringing it from the object store of a copy.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        if path.exists():
            return True
        mirror = mirror_of(self.folder.parent)
        return mirror is not None and mirror.knows(path) and mirror.fetch(path)

    @property
    def has_checkpoint(self) -> bool:
        """True if there is a checkpoint to go on from, here or on the object store of a copy."""
        if self.checkpoint.exists():
            return True
        mirror = mirror_of(self.folder.parent)
        return mirror is not None and mirror.knows(self.checkpoint)

    def require_sound(self, *files: Path) -> None:
        """Check files against the checksums in `result.json`; results of an earlier version have none.

        Raises:
            DamageError: one of them is not as it was when the cell ended, is not there, or is no regular file.
        """
        result = self.result()
        vouched = result.files if result is not None else {}
        for path in files:
            self.fetch(path)
            if path.exists() and not path.is_file():
                raise DamageError(f"{path}: cannot be read (not a regular file)")
            if path.name not in vouched:
                continue
            try:
                digest = checksum.hash_file(path)
            except FileNotFoundError:
                raise DamageError(f"{path}: damaged: not there, although result.json has its checksum") from None
            except OSError as error:
                raise DamageError(f"{path}: cannot be read ({error.strerror or error})") from error
            if digest != vouched[path.name]:
                raise DamageError(f"{path}: damaged: {checksum.CHANGED}")

    def write_cell(self, cell: CellFile) -> None:
        write_stored(self.folder / "cell.json", cell)

    def write_result(self, result: ResultFile) -> None:
        """Write the result and so finish the cell. After this only a redo may change its folder."""
        self.forget_failure()
        write_stored(self.folder / "result.json", result)
        self.checkpoint.unlink(missing_ok=True)

    def clean(self) -> None:
        """Delete the failure and partial files of an earlier attempt. The caller must hold the lock."""
        self.forget_failure()
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()

    def keep_aside(self, path: Path) -> Path:
        """Rename a damaged file of this folder, so that it is kept but not read; return its new path."""
        place, number = path.with_name(path.name + DAMAGED_SUFFIX), 2
        while place.exists():
            place, number = path.with_name(f"{path.name}{DAMAGED_SUFFIX}-{number}"), number + 1
        path.rename(place)
        return place

    def set_aside(self) -> Path:
        """Move the whole folder to `superseded/` beside it, so that the cell is trained anew; return its new path.

        Raises:
            Timeout: the cell is being trained.
            TrackingError: the folder cannot be moved.
        """
        place = self.folder.parent / "superseded" / f"{self.fingerprint}.{time.time_ns() // 1_000_000}"
        can_be_held = self.folder.is_dir() and not (self.folder / "lock").is_dir()
        try:
            with self.lock().acquire(timeout=0) if can_be_held else nullcontext():
                self._set_aside_on_store(place.name)
                place.parent.mkdir(exist_ok=True)
                self.folder.rename(place)
        except FileExistsError as error:
            raise TrackingError(f"{place.parent}: not a folder; move it away, records are set aside there") from error
        except Timeout:
            raise
        except OSError as error:
            raise TrackingError(f"{self.folder}: cannot be moved to {place} ({error.strerror or error})") from error
        return place

    def _set_aside_on_store(self, name: str) -> None:
        """Move the record on the object store of a copy; the caller holds the lock of the cell."""
        mirror = mirror_of(self.folder.parent)
        if mirror is None:
            return
        lease = CellLease(mirror.store, self.fingerprint, mirror.name)
        try:
            lease.take(again=True)
        except LeaseTaken:
            raise Timeout(str(self.folder / "lock")) from None
        try:
            mirror.move_aside(self.fingerprint, name, lease)
        finally:
            lease.release()

    def write_failure(self, failure: FailureFile) -> None:
        write_stored(self.folder / "failure.json", failure)

    @contextmanager
    def changed_by_runner(self) -> Iterator[None]:
        """Change the record of a cell whose process has ended; in a copy of an object store the change is sent.

        If another process has the cell by now, the change stays here.
        """
        if mirror_of(self.folder.parent) is None:
            yield
            return
        with ExitStack() as stack:
            with suppress(Timeout, ObjectStoreError):
                stack.enter_context(self.owned(patience=0.0))
            yield

    def forget_failure(self) -> None:
        """Delete the failure, so that the cell can be resumed."""
        (self.folder / "failure.json").unlink(missing_ok=True)

    def lock(self) -> FileLock:
        """Return the lock that permits to train this cell; the kernel releases it when its holder dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "lock")

    @contextmanager
    def owned(self, *, patience: float) -> Iterator[CellHold]:
        """Hold the cell: its lock, and heartbeats for hosts that cannot see the lock (on some network disks).

        In a copy of an object store its lease is held, too, and the record is first made equal to the store's.

        Raises:
            Timeout: another process still holds it after `patience` seconds.
            ObjectStoreError: the store of a copy does not answer, or refuses.
        """
        with self.lock().acquire(timeout=patience):
            if (mirror := mirror_of(self.folder.parent)) is not None:
                with hold_mirrored(mirror, self.folder) as hold, cell_owner.beating(self.folder):
                    yield hold
                return
            now = self.owner()
            if now is not None and cell_owner.is_elsewhere(now):
                path = self.folder / cell_owner.FILE
                if cell_owner.lives_by_watching(path, now, self.owner):
                    raise Timeout(str(self.folder / "lock"))
            with cell_owner.beating(self.folder, now) as heartbeats:
                yield CellHold(heartbeats)

    def read(self) -> CellContent:
        """Return the JSON files of the record with the state of the cell, each file read once.

        The owner of a cell that has ended is not read.
        """
        try:
            self.require_folder()
            (cell, result), failure = self._described(), self.failure()
            if result is not None:
                return CellContent(state=result.status, cell=cell, result=result, failure=failure)
            state: State = "running" if self._is_held() else "failed" if failure is not None else "missing"
        except DamageError as error:
            return CellContent(state="damaged", damage=str(error))
        return CellContent(state=state, cell=cell, failure=failure)

    def state(self) -> State:
        """Return the state of the cell; "damaged" if a JSON file of its record is damaged."""
        return self.read().state

    def damage(self) -> str | None:
        """Return the first damage of the record; None if its JSON files are sound."""
        return self.read().damage

    def _is_held(self) -> bool:
        """Tell whether the cell is being trained now."""
        locked = cell_owner.is_locked(self.folder / "lock")
        if locked:
            return True
        held = self.owner()
        # On this machine the visible lock is more reliable than a heartbeat that its owner left behind.
        if held is None or (locked is False and not cell_owner.is_elsewhere(held)):
            return False
        return cell_owner.is_alive(self.folder / cell_owner.FILE, held)


def advice_on_damage(fingerprint: str) -> str:
    """Return the advice in a message about a damaged record."""
    return f"`cifar-lab fsck` shows what can be mended, `run-ablation … --redo {fingerprint[:12]}` trains it anew"

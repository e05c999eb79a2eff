"""What a cell leaves on disk, in `runs/<fingerprint>/`, and the state that this puts it in.

    cell.json             what it is: recipe, seed, data, parameters, execution, code
    journal.jsonl         what happened, as it happened
    checkpoint.pt         where it would go on; gone once the cell is finished
    weights.safetensors   the last weights
    predictions.npz       prediction, probability, label and logits (float16) of each test image, and logits and
                          labels of val: about 0.3 MB
    confusion.csv         rows: labels, columns: predictions
    failure.json          the trace of the last attempt, if it failed
    result.json           how it ended; written last, and only then is the cell finished
    owner.json            who trains it, written anew while they live: host, machine, process, beat, time
    code.diff             the changes that were not committed when the training began, if any

`cell.json`: `{"fingerprint", "seed", "recipe": {…}, "data": {"name", "kind", "hash"}, "classes": […],
"parameters", "macs", "numerics", "execution": {"device", "threads", "precision", "compile", "graph", "gpu"},
"provenance": {"git_commit", "git_dirty", "versions": {…}, "hardware": {…}}}`; `result.json`: `{"fingerprint", "status":
"finished" | "diverged", "epoch", "step", "time": ms, "metrics": {"test/acc": 0.9, …}}`; `failure.json`: `{"error": "one
line", "trace", "time": ms, "out_of_memory": true where that was why}`; `owner.json`: `{"host", "machine", "pid",
"beat", "time": ms}`. Each of these carries its checksum (see `tracking.seal`), and `result.json` those of the files
that stood beside it when the cell ended: `"files": {"weights.safetensors": "<sha256>", …}`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.tracking import journal, owner, seal, shape
from cifar_lab.tracking.shape import Shape

State = Literal["missing", "running", "finished", "failed", "diverged", "pruned", "damaged"]
"""A record by itself is never pruned: a search says so of a cell that it stopped early."""
DAMAGED_SUFFIX = ".damaged"
"""Ends the name of a damaged file that was kept aside when its cell was begun anew."""
PROBE = 64 * 1024
"""Bytes that a runs folder must have room for before anything is begun."""


@dataclass(frozen=True)
class Record:
    """The folder of one cell. Reading never fails on a cell that was never begun; what is damaged is refused."""

    folder: Path

    @property
    def fingerprint(self) -> str:
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.npz"

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
        """Something of the cell is on disk beside its lock, readable or not; or something else has its name."""
        if not self.folder.is_dir() and os.path.lexists(self.folder):
            return True
        return any((self.folder / name).exists() for name in ("cell.json", "result.json", "failure.json"))

    def cell(self, *needed: str) -> dict[str, Any] | None:
        """Return `cell.json`, once the cell was begun; `needed`: the dotted paths that must be in it."""
        return self.own(self.folder / "cell.json", _read(self.folder / "cell.json", shape.CELL, needed))

    def owner(self) -> dict[str, Any] | None:
        """Return who trains the cell, or trained it last: host, pid, and the time in ms of their last sign of life."""
        return _read(self.folder / owner.FILE, shape.OWNER)

    def result(self) -> dict[str, Any] | None:
        """Return `result.json`; None for a cell that has not ended."""
        return self.own(self.folder / "result.json", _read(self.folder / "result.json", shape.RESULT))

    def failure(self) -> dict[str, Any] | None:
        """Return `failure.json`: how the last attempt failed, if it did."""
        return _read(self.folder / "failure.json", shape.FAILURE)

    def own(self, path: Path, tree: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return what `path` holds, unless it names another cell; files of earlier versions may name none.

        Raises:
            DamageError: it is the file of another cell.
        """
        name = self.fingerprint.partition(".")[0]  # a record that a redo set aside has the time behind its name
        if tree is None or tree.get("fingerprint", name) == name:
            return tree
        raise DamageError(f"{path}: damaged: the record of another cell, {str(tree['fingerprint'])[:12]}")

    def require_folder(self) -> None:
        """Check that what has the cell's name is a folder that can be read; a cell that was never begun has none.

        Raises:
            DamageError: it is a file, a link to nothing, or a folder without the right to read it.
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

    def ended(self) -> dict[str, Any] | None:
        """Return `result.json` of a cell that also has the `cell.json` that tells what it is the result of.

        Raises:
            DamageError: `cell.json` is not there although the cell has ended, or one of the two is damaged.
        """
        result, cell = self.result(), self.cell()
        if result is not None and cell is None and self.result() is not None:  # not set aside meanwhile
            raise DamageError(f"{self.folder / 'cell.json'}: damaged: not there, although the cell has ended")
        return result

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every file that a result vouches for, by name, of those that are there."""
        files = (self.weights, self.predictions, self.confusion, self.code_diff, self.journal)
        return {path.name: seal.hash_file(path) for path in files if path.exists()}

    def obstacles(self) -> list[Path]:
        """Return what stands where a training writes a file, and is none: a folder, a device or a pipe."""
        files = (self.folder / "lock", self.weights, self.predictions, self.confusion, self.code_diff)
        return [path for path in files if path.exists() and not path.is_file()]

    def require_sound(self, *files: Path) -> None:
        """Check files against the checksums in `result.json`; those of an earlier version have none.

        Raises:
            DamageError: one of them is not as it was when the cell ended, is not there, or is no regular file.
        """
        vouched = (self.result() or {}).get("files", {})
        for path in files:
            if path.exists() and not path.is_file():
                raise DamageError(f"{path}: cannot be read (not a regular file)")
            if path.name not in vouched:
                continue
            try:
                digest = seal.hash_file(path)
            except FileNotFoundError:
                raise DamageError(f"{path}: damaged: not there, although result.json has its checksum") from None
            except OSError as error:
                raise DamageError(f"{path}: cannot be read ({error.strerror or error})") from error
            if digest != vouched[path.name]:
                raise DamageError(f"{path}: damaged: {seal.CHANGED}")

    def write_cell(self, tree: dict[str, Any]) -> None:
        seal.write(self.folder / "cell.json", tree)

    def write_result(self, tree: dict[str, Any]) -> None:
        """Finish the cell. Nothing may be written to its folder after this but by a redo."""
        self.forget_failure()
        seal.write(self.folder / "result.json", tree)
        self.checkpoint.unlink(missing_ok=True)

    def clean(self) -> None:
        """Forget how an earlier attempt failed, and what it left half-written. For the holder of the lock."""
        self.forget_failure()
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()

    def keep_aside(self, path: Path) -> Path:
        """Rename a damaged file of this folder, so that nothing reads it and nothing is lost; return its new path."""
        place, number = path.with_name(path.name + DAMAGED_SUFFIX), 2
        while place.exists():
            place, number = path.with_name(f"{path.name}{DAMAGED_SUFFIX}-{number}"), number + 1
        path.rename(place)
        return place

    def set_aside(self) -> Path:
        """Move the whole folder to `superseded/` beside it, so that the cell is trained anew; return where it went.

        Raises:
            Timeout: somebody trains it.
            TrackingError: it cannot be moved there.
        """
        place = self.folder.parent / "superseded" / f"{self.fingerprint}.{time.time_ns() // 1_000_000}"
        can_be_held = self.folder.is_dir() and not (self.folder / "lock").is_dir()
        try:
            with self.lock().acquire(timeout=0) if can_be_held else nullcontext():
                place.parent.mkdir(exist_ok=True)
                self.folder.rename(place)
        except FileExistsError as error:
            raise TrackingError(f"{place.parent}: not a folder; move it away, records are set aside there") from error
        except Timeout:
            raise
        except OSError as error:
            raise TrackingError(f"{self.folder}: cannot be moved to {place} ({error.strerror or error})") from error
        return place

    def write_failure(self, tree: dict[str, Any]) -> None:
        seal.write(self.folder / "failure.json", tree)

    def forget_failure(self) -> None:
        """Make the cell one that is to be gone on with, not one that failed."""
        (self.folder / "failure.json").unlink(missing_ok=True)

    def lock(self) -> FileLock:
        """The right to train this cell; the kernel takes it back when its holder dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "lock")

    @contextmanager
    def owned(self, *, patience: float) -> Iterator[None]:
        """Hold the cell: its lock, and signs of life for hosts on which the lock cannot be seen (some network disks).

        Raises:
            Timeout: after `patience` seconds somebody still holds it.
        """
        with self.lock().acquire(timeout=patience):
            now = self.owner()
            if now is not None and owner.is_elsewhere(now):
                path = self.folder / owner.FILE
                if owner.lives_by_watching(path, now, self.owner):
                    raise Timeout(str(self.folder / "lock"))
            with owner.beating(self.folder):
                yield

    def look(self) -> tuple[State, str | None]:
        """Return how far the cell is, and of a damaged record the first damage, in one line that names file and rule.

        Who trained a cell that has ended is nobody's concern: its owner is not read.
        """
        try:
            self.require_folder()
            result, failure = self.ended(), self.failure()
            if result is not None:
                return ("diverged" if result["status"] == "diverged" else "finished"), None
            if self._is_held():
                return "running", None
        except DamageError as error:
            return "damaged", str(error)
        return ("failed" if failure is not None else "missing"), None

    def state(self) -> State:
        """Return how far the cell is; "damaged" where a JSON file of its record is not as it was written."""
        return self.look()[0]

    def damage(self) -> str | None:
        """Return the first damage of the record; None if its JSON is sound."""
        return self.look()[1]

    def _is_held(self) -> bool:
        """Tell whether somebody trains the cell now."""
        locked = owner.is_locked(self.folder / "lock")
        if locked:
            return True
        held = self.owner()
        # Where the lock of this machine can be seen, it tells more than a sign of life that its owner left behind.
        if held is None or (locked is False and not owner.is_elsewhere(held)):
            return False
        return owner.is_alive(self.folder / owner.FILE, held)


def remedy(fingerprint: str) -> str:
    """Return what a message about a damaged record tells its reader to do."""
    return f"`cifar-lab fsck` shows what can be mended, `run-ablation … --redo {fingerprint[:12]}` trains it anew"


def require_writable(runs: Path) -> None:
    """Make the runs folder, or refuse.

    Raises:
        TrackingError: it cannot be made or written to.
    """
    probe = runs / f".probe-{os.getpid()}"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:  # an empty file would fit on a disk that is full
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise TrackingError(f"--runs {runs}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def find(runs: Path, prefix: str) -> Record:
    """The one cell in `runs` whose fingerprint starts with `prefix`.

    Raises:
        TrackingError: there is none, or more than one.
    """
    found = sorted(path for path in runs.glob(f"{prefix}*") if len(path.name) == 64 and path.is_dir())
    if len(found) != 1:
        many = f"{len(found)} cells start so: " + ", ".join(path.name[:12] for path in found[:5])
        raise TrackingError(f"fingerprint '{prefix}': {many if found else f'no such cell in {runs}'}")
    return Record(found[0])


def _read(path: Path, expected: Shape, needed: Iterable[str] = ()) -> dict[str, Any] | None:
    """Return what `path` holds; None where it is not there.

    Raises:
        DamageError: it cannot be read, or is not what it must be; the line names the file and the rule.
    """
    tree: dict[str, Any] | None = seal.read(path)
    if tree is None and not path.exists():
        return None
    rule = shape.broken(tree, expected, needed)
    if rule is not None:
        raise DamageError(f"{path}: damaged: {rule}")
    return tree

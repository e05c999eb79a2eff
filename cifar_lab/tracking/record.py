"""What a cell leaves on disk, in `runs/<fingerprint>/`, and the state that this puts it in.

    cell.json             what it is: recipe, seed, data, parameters, execution, code
    journal.jsonl         what happened, as it happened
    checkpoint.pt         where it would go on; gone once the cell is finished
    weights.safetensors   the last weights
    predictions.npz       one test prediction an image, with its probability and the label
    confusion.csv         rows: labels, columns: predictions
    failure.json          the trace of the last attempt, if it failed
    result.json           how it ended; written last, and only then is the cell finished
    owner.json            who trains it, touched while they live: host, process, time
    code.diff             the changes that were not committed when the training began, if any

`cell.json`: `{"fingerprint", "seed", "recipe": {…}, "data": {"name", "kind", "hash"}, "classes": […],
"parameters", "macs", "numerics", "execution": {"device", "threads", "precision", "compile", "graph", "gpu"},
"provenance": {"git_commit", "git_dirty", "versions": {…}, "hardware": {…}}}`; `result.json`: `{"status": "finished" |
"diverged", "epoch", "step", "time": ms, "metrics": {"test/acc": 0.9, …}}`; `failure.json`: `{"error": "one
line", "trace", "time": ms, "out_of_memory": true where that was why}`; `owner.json`: `{"host", "pid", "time": ms}`.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from cifar_lab.errors import TrackingError
from cifar_lab.tracking import atomic, shape
from cifar_lab.tracking.shape import Shape

State = Literal["missing", "running", "finished", "failed", "diverged"]

PROBE = 64 * 1024
"""Bytes that a runs folder must have room for before anything is begun."""
BEAT = 10.0
"""Seconds between two signs of life of a cell's owner."""
SILENCE = 120.0
"""Seconds without one after which an owner on another host, whose lock cannot be seen from here, counts as dead."""


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

    def cell(self, *needed: str) -> dict[str, Any] | None:
        """`cell.json`, once it was begun; `needed`: the dotted paths that must be in it."""
        return _read(self.folder / "cell.json", shape.CELL, needed)

    def owner(self) -> dict[str, Any] | None:
        """Who trains the cell, or trained it last: host, pid, and the time in ms of their last sign of life."""
        return _read(self.folder / "owner.json", shape.OWNER)

    def result(self) -> dict[str, Any] | None:
        return _read(self.folder / "result.json", shape.RESULT)

    def failure(self) -> dict[str, Any] | None:
        return _read(self.folder / "failure.json", shape.FAILURE)

    def write_cell(self, tree: dict[str, Any]) -> None:
        atomic.write_json(self.folder / "cell.json", tree)

    def write_result(self, tree: dict[str, Any]) -> None:
        """Finish the cell. Nothing may be written to its folder after this but by a redo."""
        self.forget_failure()
        atomic.write_json(self.folder / "result.json", tree)
        self.checkpoint.unlink(missing_ok=True)

    def clean(self) -> None:
        """Forget how an earlier attempt failed, and what it left half-written. For the holder of the lock."""
        self.forget_failure()
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()

    def set_aside(self) -> Path:
        """Move the whole folder to `superseded/` beside it, so that the cell is trained anew; where it went.

        Raises:
            Timeout: somebody trains it.
        """
        with self.lock().acquire(timeout=0):
            place = self.folder.parent / "superseded" / f"{self.fingerprint}.{time.time_ns() // 1_000_000}"
            place.parent.mkdir(exist_ok=True)
            self.folder.rename(place)
        return place

    def write_failure(self, tree: dict[str, Any]) -> None:
        atomic.write_json(self.folder / "failure.json", tree)

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
            if self._is_held_elsewhere():
                raise Timeout(str(self.folder / "lock"))
            done = threading.Event()
            self._beat()
            heart = threading.Thread(target=self._beat_until, args=(done,), name="heartbeat", daemon=True)
            heart.start()
            try:
                yield
            finally:
                done.set()
                heart.join()
                (self.folder / "owner.json").unlink(missing_ok=True)

    def _beat_until(self, done: threading.Event) -> None:
        while not done.wait(BEAT):
            with suppress(OSError):  # a full disk stops the training where it writes what counts, not here
                self._beat()

    def _beat(self) -> None:
        now = time.time_ns() // 1_000_000
        atomic.write_json(self.folder / "owner.json", {"host": socket.gethostname(), "pid": os.getpid(), "time": now})

    def state(self) -> State:
        result = self.result()
        if result is not None:
            return "diverged" if result["status"] == "diverged" else "finished"
        if self._is_locked() or self._is_held_elsewhere():
            return "running"
        return "failed" if (self.folder / "failure.json").exists() else "missing"

    def _is_locked(self) -> bool:
        if not (self.folder / "lock").exists():
            return False
        try:
            with self.lock().acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _is_held_elsewhere(self) -> bool:
        """Whether the last sign of life came from another host, and not long ago."""
        owner = self.owner()
        if owner is None or owner["host"] == socket.gethostname():
            return False
        return bool(time.time() - owner["time"] / 1000 < SILENCE)


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
    """What `path` holds; None where it is not there.

    Raises:
        TrackingError: it cannot be read, or is not what it must be; the line names the file and the rule.
    """
    try:
        tree: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise TrackingError(f"{path}: cannot be read ({error})") from error
    rule = shape.broken(tree, expected, needed)
    if rule is not None:
        raise TrackingError(f"{path}: damaged: {rule}")
    return tree

"""The hold of a cell by the process that trains it: where its files go besides its folder.

A cell in a plain folder needs its lock, and heartbeats, which tell its holder if another one has taken it. In a copy of
an object store the holder has a lease, too, and sends its files: the journal before the checkpoint that goes with it,
and at the end everything before the result.

Each file is written on the condition that it is as this holder last saw it. If it is not, the holder first looks at the
file, then renews its lease, then writes on the condition of what it saw: a holder that was replaced finds one of the
three refused. So of two holders the later one's files stand, and its result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import Timeout

from cifar_lab.errors import ObjectStoreError
from cifar_lab.object_store import WriteConflict
from cifar_lab.store import cell_owner, checksum, journal
from cifar_lab.store.cell_owner import Heartbeats
from cifar_lab.store.kept_objects import Kept, KeptObject, version_of
from cifar_lab.store.lease import FILE as LEASE
from cifar_lab.store.lease import LOST, CellLease, LeaseFile, LeaseLost, LeaseTaken
from cifar_lab.store.mirror import LOCAL, SMALL, Mirror
from cifar_lab.store.record_files import ResultFile

RESULT = "result.json"
DROPPED = ("failure.json", "checkpoint.pt", "code.diff")
"""Files that a training deletes."""
TRIES = 5
"""Times that a file is written again after another holder's write."""
END_PATIENCE, PAUSE = 900.0, 5.0
"""Seconds for which the end of a cell waits for a store that does not answer, and between two tries."""
Answer = TypeVar("Answer")
REPLACED = "another process has taken the cell, as nothing was heard of this one for long"
UNSURE = (-1, -1, -1)
"""Version that no file has: it is sent again."""
_log = logging.getLogger(__name__)


class CellHold:
    """Hold of a cell in a plain folder."""

    def __init__(self, heartbeats: Heartbeats | None = None) -> None:
        self._heartbeats = heartbeats

    @property
    def is_lost(self) -> bool:
        """True once another process is known to hold the cell: nothing of this one counts any more."""
        return self._heartbeats is not None and self._heartbeats.is_lost

    def require_held(self) -> None:
        """Check, before files of the record are written, that no other process has taken the cell.

        Raises:
            LeaseLost: one has, as it heard nothing of this one for long.
        """
        if self._heartbeats is not None and self._heartbeats.look():
            raise LeaseLost(REPLACED)

    def save(self) -> None:
        """Send what changed in the folder of the cell."""

    def send_result(self, result: ResultFile) -> None:  # noqa: ARG002 (there is nowhere to send it to)
        """Send what the result refers to, then the result, which is not yet in the folder.

        Raises:
            LeaseLost: another process has taken the cell.
        """
        self.require_held()


class MirroredHold(CellHold):
    """Hold of a cell in a local copy of an object store, by a lease that the caller has taken."""

    def __init__(self, mirror: Mirror, folder: Path, lease: CellLease, kept: Kept) -> None:
        self._mirror, self._folder, self._lease, self._kept = mirror, folder, lease, kept
        self._lock = threading.Lock()

    @property
    def is_lost(self) -> bool:
        """True once another process has taken the lease."""
        return self._lease.is_lost

    def require_held(self) -> None:
        """Check that the lease is not known to be lost.

        Raises:
            LeaseLost: another process has taken the cell.
        """
        if self._lease.is_lost:
            raise LeaseLost(LOST)

    def save(self) -> None:
        """Send what changed in the folder of the cell; without the store, training goes on.

        Raises:
            LeaseLost: another process has taken the cell.
        """
        try:
            self._send()
        except ObjectStoreError as error:
            _log.warning("warning: %s; sent with the next checkpoint", error)

    def send_journal(self) -> None:
        """Send the whole lines of the journal, so that others see how far the cell is.

        Raises:
            LeaseLost: another process has taken the cell.
            ObjectStoreError: the store does not answer, or refuses.
        """
        path = self._folder / journal.FILE
        with self._lock:
            if path.exists() and self._is_changed(path):
                self._send_file(path)

    def send_result(self, result: ResultFile) -> None:
        """Send what the result refers to, then the result; wait for a store that does not answer.

        Raises:
            LeaseLost: another process has taken the cell.
            ObjectStoreError: the store did not answer for `END_PATIENCE` seconds.
        """
        tree = checksum.seal(result.as_json())
        wait_for_store(self._send)
        wait_for_store(lambda: self._lease.end(tree))
        content = result_content(tree)
        etag = wait_for_store(lambda: self._mirror.store.write(f"{self._folder.name}/{RESULT}", content))
        self._kept[RESULT] = KeptObject(etag, UNSURE)

    def _send(self) -> None:
        self.require_held()
        with self._lock:
            for path in self._files():
                if self._is_changed(path):
                    self._send_file(path)
            for file in DROPPED:
                known = self._kept.get(file)
                if known is not None and known.version is not None and not (self._folder / file).exists():
                    self._mirror.store.delete(f"{self._folder.name}/{file}", known.etag)
                    del self._kept[file]
            if RESULT in self._kept and (version := version_of(self._folder / RESULT)) is not None:
                self._kept[RESULT] = self._kept[RESULT]._replace(version=version)
            self._mirror.keep(self._folder.name, self._kept)

    def _files(self) -> list[Path]:
        """Return the files that may be sent, in this order: large ones after the small ones, a failure last."""
        names = [path.name for path in self._folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        small = {name: place for place, name in enumerate(SMALL)}
        order = sorted(names, key=lambda name: (name == "failure.json", small.get(name, len(small)), name))
        return [self._folder / name for name in order if name not in {*LOCAL, RESULT, LEASE}]

    def _is_changed(self, path: Path) -> bool:
        known = self._kept.get(path.name)
        return known is None or known.version is None or known.version != version_of(path)

    def _send_file(self, path: Path) -> None:
        version, content = version_of(path), path.read_bytes()
        if path.name == journal.FILE and not content.endswith(b"\n"):  # a line is being written
            version, content = UNSURE, content[: content.rfind(b"\n") + 1]
        name, known = f"{self._folder.name}/{path.name}", self._kept.get(path.name)
        etag = known.etag if known is not None else None
        for _ in range(TRIES):
            try:
                self._kept[path.name] = KeptObject(self._mirror.store.write_if(name, content, etag), version)
                return
            except WriteConflict:
                now = self._mirror.store.look(name)
                self._lease.renew()
                if now is not None and now.etag.strip('"') == hashlib.md5(content, usedforsecurity=False).hexdigest():
                    self._kept[path.name] = KeptObject(now.etag, version)
                    return
                etag = now.etag if now is not None else None
        raise ObjectStoreError(f"{self._mirror.address}/{name}: another process writes it again and again")


@contextmanager
def hold_mirrored(mirror: Mirror, folder: Path) -> Iterator[CellHold]:
    """Hold a cell in a copy of an object store, whose lock the caller has, and bring its record.

    A cell that has ended is not held: its record is brought, with the result.

    Raises:
        Timeout: another process holds it.
        ObjectStoreError: the store does not answer, or refuses.
    """
    name = folder.name
    lease = CellLease(mirror.store, name, mirror.name, task=cell_owner.queue_task().get("task", ""))
    try:
        ended = lease.take()
    except LeaseTaken as taken:
        mirror.note_owner(name, taken.found, taken.age)
        raise Timeout(str(folder / "lock")) from None
    if ended is not None:
        _bring_ended(mirror, name, ended)
        yield CellHold()
        return
    after_renewal: list[Callable[[], None]] = []

    def act_after_renewal() -> None:
        for act in after_renewal:
            act()

    lease.keep(act_after_renewal)  # from now on, since a checkpoint may take long to come
    hold: MirroredHold | None = None
    try:
        hold = MirroredHold(mirror, folder, lease, mirror.pull(name))
        after_renewal.append(hold.send_journal)
        yield hold
    finally:
        try:
            if hold is not None and not lease.is_lost:
                hold.save()
            lease.release()
        except (ObjectStoreError, LeaseLost) as error:
            _log.warning("warning: %s", error)


def _bring_ended(mirror: Mirror, name: str, ended: LeaseFile) -> None:
    """Bring the record of a cell that has ended; write its result if its holder died before it had done so."""
    kept = mirror.pull(name)
    if RESULT not in kept and ended.result is not None:
        mirror.store.write(f"{name}/{RESULT}", result_content(ended.result))
        mirror.pull(name)


def result_content(tree: Mapping[str, object]) -> bytes:
    """Return the content of `result.json` from its sealed JSON."""
    return (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode()


def wait_for_store(act: Callable[[], Answer]) -> Answer:
    """Call `act` until the store answers, for `END_PATIENCE` seconds at most."""
    end = time.monotonic() + END_PATIENCE
    while True:
        try:
            return act()
        except ObjectStoreError as error:
            if time.monotonic() >= end:
                raise
            _log.warning("warning: %s; tried again", error)
            time.sleep(PAUSE)

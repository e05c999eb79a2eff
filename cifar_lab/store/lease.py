"""Leases on an object store: one holder of a cell at a time, by conditional writes of one object.

`<fingerprint>/lease.json` names the holder, a fencing number that grows with each holder, and the seconds without a
renewal after which another may take it. Whoever writes it writes on the condition that it is still as he last saw it,
so of two that try, one is refused. A holder that was paused for longer than its lease learns so from its next write.

The end of a cell is such a write, too: the lease becomes `ended` and carries the result. Nobody whose lease was taken
can end the cell, at whatever moment he was paused.

The age of a lease is the difference of two times of the server: when it wrote the object, and when it answered. The
clocks of other machines are not used.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Literal

from cifar_lab.environment import environment_number
from cifar_lab.errors import CellError, DamageError, ObjectStoreError
from cifar_lab.object_store import ObjectStore, StoredObject, WriteConflict
from cifar_lab.store import checksum
from cifar_lab.store.cell_owner import machine
from cifar_lab.store.stored_json import JsonObject, Number, StoredJson, Text, Whole, parse_stored

FILE = "lease.json"
VARIABLE = "CIFAR_LAB_LEASE"
SECONDS, SHORTEST = 60.0, 4.0
"""Seconds without a renewal after which a lease may be taken: the default, and the minimum."""
RENEWALS = 4
"""Renewals in this time."""
ROUNDING = 2.0
"""Seconds added to the time of a lease, since servers round times to seconds."""
_log = logging.getLogger(__name__)


class LeaseTaken(Exception):
    """Another process holds the lease."""

    def __init__(self, found: LeaseFile | None, age: float) -> None:
        super().__init__("another process holds the lease")
        self.found, self.age = found, age


class LeaseLost(CellError):
    """Another process has taken the cell, as the lease or the heartbeats of this one ended; it writes no more."""


class LeaseFile(StoredJson):
    """Content of `lease.json`."""

    state: Literal["held", "free", "ended"]
    fence: Whole
    """Number of the holder: each has a greater one than the one before."""
    beat: Whole
    """Number of the renewal."""
    holder: Text
    """Random name of this holding: no two are equal."""
    host: Text
    machine: Text
    """Name of the running kernel."""
    mirror: Text
    """Random name of the local copy of the store that the holder works in."""
    pid: Whole
    seconds: Number
    """Seconds without a renewal after which another may take it."""
    task: Text = ""
    result: JsonObject | None = None
    """Content of `result.json`, if the cell has ended."""

    def is_alive(self, age: float) -> bool:
        """Tell whether it is held, `age` seconds after its last renewal."""
        return self.state == "held" and age <= self.seconds + ROUNDING

    def is_of(self, mirror: str) -> bool:
        """Tell whether a process of this machine held it in the local copy `mirror`."""
        return self.mirror == mirror and self.machine == machine()


def lease_seconds() -> float:
    """Return the time of a lease in seconds: `CIFAR_LAB_LEASE`, by default `SECONDS`.

    Raises:
        UsageError: the variable is not a number from `SHORTEST` to 86400.
    """
    return environment_number(VARIABLE, SECONDS, low=SHORTEST, high=86400, unit="seconds")


def parse_lease(found: StoredObject) -> LeaseFile | None:
    """Return a lease; None for one that is damaged: it counts as held until it is old."""
    try:
        tree = json.loads(found.content)
        return parse_stored(checksum.unseal(tree) if isinstance(tree, dict) else tree, LeaseFile, FILE)
    except (ValueError, RecursionError, DamageError):
        return None


class CellLease:
    """Lease that this process holds, or tries to hold. `take` it, `renew` it in time, then `end` or `release` it."""

    def __init__(self, store: ObjectStore, folder: str, mirror: str, task: str = "") -> None:
        """Take the place of a lease: `folder` in the store. `mirror`: name of the local copy that this process uses."""
        self._store, self._name, self._lock = store, f"{folder}/{FILE}", threading.Lock()
        self._etag = ""
        self._own = LeaseFile(
            state="held", fence=0, beat=0, holder=uuid.uuid4().hex, host=socket.gethostname(), machine=machine(),
            mirror=mirror, pid=os.getpid(), seconds=lease_seconds(), task=task,
        )  # fmt: skip
        self._done = threading.Event()
        self._heart: threading.Thread | None = None
        self.is_lost = False

    @property
    def fence(self) -> int:
        """Fencing number of this holder."""
        return self._own.fence

    def take(self, *, again: bool = False) -> LeaseFile | None:
        """Take the lease, and renew it from now on in a thread; return the lease of a cell that has ended instead.

        The caller holds the local lock of the cell, so that an earlier holder of the same local copy is dead.

        Args:
            again: take the lease of a cell that has ended, too, to train it anew.

        Raises:
            LeaseTaken: another process holds it.
            ObjectStoreError: the store does not answer, or refuses.
        """
        while True:
            found = self._store.read(self._name)
            before = parse_lease(found) if found is not None else None
            if before is not None and before.state == "ended" and not again:
                return before
            if found is not None and not self._may_take(before, found.age):
                raise LeaseTaken(before, found.age)
            mine = self._own.model_copy(update={"fence": (before.fence if before is not None else 0) + 1, "beat": 0})
            try:
                self._write(mine, found.etag if found is not None else None)
                return None
            except WriteConflict:  # another was faster, or released it; look again
                continue

    def _may_take(self, before: LeaseFile | None, age: float) -> bool:
        if before is None:  # damaged
            return age > SECONDS + ROUNDING
        return not before.is_alive(age) or before.is_of(self._own.mirror)

    def keep(self, each_time: Callable[[], None] = lambda: None) -> None:
        """Renew the lease in a thread until it is ended, released or lost; `each_time` is called after a renewal."""

        def renew_until_done() -> None:
            while not self._done.wait(self._own.seconds / RENEWALS):
                try:
                    self.renew()
                    each_time()
                except LeaseLost:
                    return
                except ObjectStoreError as error:  # nobody can take it either, or the next renewal will tell
                    _log.warning("warning: %s; tried again", error)

        self._heart = threading.Thread(target=renew_until_done, name="lease", daemon=True)
        self._heart.start()

    def renew(self) -> None:
        """Renew the lease, which proves that it is still this holder's.

        Raises:
            LeaseLost: another process has taken it.
            ObjectStoreError: the store does not answer, or refuses.
        """
        with self._lock:
            self._change(beat=self._own.beat + 1)

    def end(self, result: JsonObject) -> None:
        """End the cell with this result, for good; only the holder of the lease can.

        Raises:
            LeaseLost: another process has taken it.
            ObjectStoreError: the store does not answer, or refuses.
        """
        with self._lock:
            self._change(state="ended", beat=self._own.beat + 1, result=result)
        self.stop()

    def release(self) -> None:
        """Free the lease, if it is still held, for whoever comes next.

        Raises:
            ObjectStoreError: the store does not answer, or refuses; the lease will expire.
        """
        self.stop()
        with self._lock:
            if self._own.state == "held" and not self.is_lost:
                try:
                    self._change(state="free", beat=self._own.beat + 1)
                except LeaseLost:
                    return

    def stop(self) -> None:
        """End the thread that renews the lease."""
        self._done.set()
        if self._heart is not None and self._heart is not threading.current_thread():
            self._heart.join()

    def _change(self, **fields: object) -> None:
        if self.is_lost:
            raise LeaseLost(LOST)
        changed = self._own.model_copy(update=fields)
        try:
            self._write(changed, self._etag)
        except WriteConflict:
            self.is_lost = True
            raise LeaseLost(LOST) from None

    def _write(self, lease: LeaseFile, etag: str | None) -> None:
        """Write the lease if it is as it was last seen; a write whose answer was lost is recognised.

        Raises:
            WriteConflict: another process wrote it.
        """
        content = json.dumps(checksum.seal(lease.model_dump(mode="json")), indent=1).encode()
        try:
            self._etag = self._store.write_if(self._name, content, etag)
        except WriteConflict:
            found = self._store.read(self._name)
            if found is None or found.content != content:
                raise
            self._etag = found.etag
        self._own = lease


LOST = "its lease expired, and another process has taken the cell"

"""Ownership of a cell in training: by its lock, or by heartbeats in `owner.json` if the lock is not visible.

The kernel releases a lock when its holder dies, on one machine. Some network disks do not show locks of another
machine: there the owner's heartbeats are used. A heartbeat is new if it differs from the last one that this process
saw, whatever the clocks of the two machines; its time is used only at the first check, without anything to compare.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.store.record_files import OwnerFile
from cifar_lab.store.stored_json import read_stored, write_stored

FILE = "owner.json"
BEAT = 10.0
"""Seconds between two heartbeats of a cell's owner."""
SILENCE = 120.0
"""Seconds without a heartbeat after which an owner on another machine, whose lock is not visible, counts as dead."""
WATCH = 2.5
"""Beats for which a cell of another machine is watched before it is taken over, if the clocks are inconclusive."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class _Sign:
    """Heartbeat as this process first saw it."""

    content: tuple[object, ...]
    since: float
    """Time in seconds, on the monotonic clock."""
    is_new: bool
    """True if another heartbeat was seen before: the owner lived after this process began to watch."""


_signs: dict[Path, _Sign] = {}


@cache
def machine() -> str:
    """Return a name of the running kernel, whose processes see each other's locks; empty if it has none."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def is_locked(path: Path) -> bool | None:
    """Tell whether the lock file `path` is held, without needing write permission; None if unknown."""
    if sys.platform == "win32":
        try:
            with FileLock(path).acquire(timeout=0):
                return False
        except Timeout:
            return True
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a shared lock hardly disturbs others
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def require_locks(path: Path) -> None:
    """Check that the file `path` can be locked.

    Where the kernel does not know such locks (ENOSYS: Lustre without the option `flock`), lock files are used instead.

    Raises:
        TrackingError: the file system does not lock it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    with path.open("r+b") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise TrackingError(
                    f"runs folder {path.parent}: its file system has no locks ({error.strerror}), so two processes "
                    "would train one cell; mount it with them (NFS 4), or use another folder"
                ) from error


def is_elsewhere(owner: OwnerFile) -> bool:
    """Tell whether `owner` runs on another machine than this process, even one with the same name."""
    if owner.machine and machine():
        return owner.machine != machine()
    return owner.host != socket.gethostname()


def is_alive(path: Path, owner: OwnerFile) -> bool:
    """Tell whether the owner in the file `path` is alive, by its heartbeats."""
    if owner.beat is None:  # an earlier version, with only the time
        return time.time() - owner.time / 1000 < SILENCE
    content, now, silence = owner.sign, time.monotonic(), SILENCE if owner.seconds is None else owner.seconds
    last = _signs.get(path)
    if last is None or last.content != content:
        last = _signs[path] = _Sign(content, now, is_new=last is not None)
    if last.is_new or now - last.since >= silence:
        return now - last.since < silence
    return time.time() - owner.time / 1000 < silence


def lives_by_watching(path: Path, owner: OwnerFile, look: Callable[[], OwnerFile | None]) -> bool:
    """Tell whether the owner is alive, before taking over its cell: await a new heartbeat if clocks are inconclusive.

    Args:
        path: the file that names the owner.
        owner: the content of the file a moment ago.
        look: returns the current content; None if the file is gone.
    """
    age = time.time() - owner.time / 1000
    if -SILENCE < age < SILENCE:
        return is_alive(path, owner)
    end = time.monotonic() + WATCH * BEAT
    while time.monotonic() < end:
        time.sleep(BEAT / 10)
        now = look()
        if now is None or now.sign != owner.sign:
            return now is not None
    return False


def queue_task() -> dict[str, str]:
    """Return the field `task` of an owner if this process runs in a task of Slurm, else nothing."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    return {"task": job} if job else {}


class Heartbeats:
    """Heartbeats of the process that trains a cell, until another process has taken the cell.

    An owner that is cut off from a network disk for `SILENCE` loses its lock and its cell. When it is back, the greater
    number in `owner.json` tells it so, whatever the clocks: it writes no more.
    """

    def __init__(self, folder: Path, before: OwnerFile | None = None) -> None:
        """Prepare without writing; `before`: the owner that the cell is taken from."""
        self._folder, self._path, self._beats = folder, folder / FILE, itertools.count()
        self._fence = before.fence + 1 if before is not None else 0
        self.is_lost = False
        """True once another process is known to have taken the cell."""

    def look(self) -> bool:
        """Tell whether another process has taken the cell, by the file now: it may have trained it to its end."""
        with suppress(DamageError, OSError):
            now = read_stored(self._path, OwnerFile)
            taken = now.fence > self._fence if now is not None else (self._folder / "result.json").exists()
            self.is_lost = self.is_lost or taken
        return self.is_lost

    def beat(self) -> None:
        """Write a heartbeat.

        Raises:
            OSError: it cannot be written.
        """
        owner = OwnerFile(
            host=socket.gethostname(), machine=machine(), pid=os.getpid(), beat=next(self._beats),
            time=time.time_ns() // 1_000_000, fence=self._fence, **queue_task(),
        )  # fmt: skip
        write_stored(self._path, owner)

    def end(self) -> None:
        """Delete the file, unless it is another's by now."""
        if not self.look():
            self._path.unlink(missing_ok=True)


@contextmanager
def beating(folder: Path, before: OwnerFile | None = None) -> Iterator[Heartbeats]:
    """Write heartbeats in `folder` while the body runs; `before`: the owner that the cell is taken from."""
    done, heartbeats = threading.Event(), Heartbeats(folder, before)

    def beat_until_done() -> None:
        while not done.wait(BEAT) and not heartbeats.look():
            with suppress(OSError):  # on a full disk the training stops at a more important write
                heartbeats.beat()

    heartbeats.beat()
    heart = threading.Thread(target=beat_until_done, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield heartbeats
    finally:
        done.set()
        heart.join()
        heartbeats.end()

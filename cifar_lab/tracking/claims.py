"""Share the shipping of cells among runners: each cell is shipped by one of them at a time.

Runners on one folder see the same journals. Without this each would ship every cell, figures too, and with a SQLite
store they would wait for each other most of the time.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


class Claims:
    """The cells of one ablation that this shipper ships. The kernel takes them back when the process dies."""

    def __init__(self, runs: Path, ablation: str) -> None:
        self._folder = runs / "shipping"
        self._suffix = hashlib.sha256(ablation.encode()).hexdigest()[:8]
        self._held: dict[str, FileLock] = {}

    def take(self, fingerprint: str) -> bool:
        """Return whether the cell is ours to ship, from now on or already. False: another runner ships it."""
        if fingerprint in self._held:
            return True
        self._folder.mkdir(exist_ok=True)
        lock = FileLock(self._folder / f"{fingerprint}.{self._suffix}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._held[fingerprint] = lock
        return True

    def release(self) -> None:
        """Give every cell back. A file that somebody else takes at this moment may be theirs alone; that is harmless:
        two that ship one cell send the same, and it is stored once."""
        while self._held:
            _, lock = self._held.popitem()
            with suppress(OSError):
                Path(lock.lock_file).unlink()
            lock.release()
        with suppress(OSError):
            self._folder.rmdir()

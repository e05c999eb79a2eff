"""Divide the shipping of cells among runners: each cell is shipped by one of them at a time.

Runners on one folder see the same journals. Without this each would ship every cell with its figures, and with a SQLite
store they would mostly wait for each other.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


class UploadLease:
    """Set of an ablation's cells that this shipper ships. The kernel releases them when the process dies."""

    def __init__(self, runs: Path, ablation: str) -> None:
        self._folder = runs / "shipping"
        self._suffix = hashlib.sha256(ablation.encode()).hexdigest()[:8]
        self._held: dict[str, FileLock] = {}

    def take(self, fingerprint: str) -> bool:
        """Return True if this shipper ships the cell, newly or already; False if another runner does."""
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

    def give_back(self, fingerprint: str) -> None:
        """Release one cell, if it is held: each held one keeps a file open, of which a process may have few.

        Another runner may take a lock file at this moment and hold it alone. That is harmless: two runners that ship
        one cell send the same data, which is stored once."""
        lock = self._held.pop(fingerprint, None)
        if lock is None:
            return
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()

    def release(self) -> None:
        """Release every cell."""
        for fingerprint in list(self._held):
            self.give_back(fingerprint)
        with suppress(OSError):
            self._folder.rmdir()

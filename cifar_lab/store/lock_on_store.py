"""A lock between machines, for moments: a lease on the object store that a runs folder is a copy of."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar_lab.errors import ObjectStoreError
from cifar_lab.store.lease import CellLease, LeaseTaken
from cifar_lab.store.mirror import Mirror, mirror_of

FOLDER = "locks"
PAUSE = 0.5
"""Seconds between two tries."""
_log = logging.getLogger(__name__)


@contextmanager
def locked_on_store(lock: Path) -> Iterator[None]:
    """Hold what the lock file `lock`, which the caller holds, stands for on all machines of an object store.

    A folder that is no copy of one needs no more than the file. Without an answer of the store nothing is held, and a
    warning says so.
    """
    above = lock.parent, lock.parent.parent
    held = next((lease for folder in above if (lease := _lease(folder, lock)) is not None), None)
    if held is None:
        yield
        return
    try:
        _take(held)
    except ObjectStoreError as error:
        _log.warning("warning: %s; another machine may do the same at this moment", error)
        yield
        return
    try:
        yield
    finally:
        try:
            held.release()
        except ObjectStoreError as error:  # it expires
            _log.warning("warning: %s", error)


def _lease(folder: Path, lock: Path) -> CellLease | None:
    mirror: Mirror | None = mirror_of(folder)
    if mirror is None:
        return None
    name = lock.relative_to(folder).as_posix().replace("/", "-")
    return CellLease(mirror.store, f"{FOLDER}/{name}", mirror.name)


def _take(lease: CellLease) -> None:
    while True:
        try:
            lease.take()
            return
        except LeaseTaken:
            time.sleep(PAUSE)

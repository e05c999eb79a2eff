"""The runs folder as a whole: whether records can be written there, and where one is, by its fingerprint."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cifar_lab.errors import TrackingError
from cifar_lab.store import cell_owner
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.mirror import mirror_of

STUDIES = "studies.journal"
"""Name of the file with the trials of all searches, beside the records."""
PROBE = 64 * 1024
"""Bytes that must be free on a runs folder's disk before anything is begun."""


def require_writable(runs: Path) -> None:
    """Create the runs folder if necessary, and check that it is writable.

    Raises:
        TrackingError: it cannot be created or written to, or its file system has no locks; for a copy of an object
            store, that cannot be written to.
    """
    probe = runs / f".probe-{os.getpid()}"
    if (mirror := mirror_of(runs)) is not None:
        mirror.require_conditions()
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:  # an empty file would fit on a full disk
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
        cell_owner.require_locks(probe)
    except OSError as error:
        raise TrackingError(f"runs folder {runs}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def find_record(runs: Path, prefix: str) -> CellRecord:
    """Return the one cell in `runs` whose fingerprint starts with `prefix`.

    Raises:
        TrackingError: there is none, or more than one.
    """
    found = sorted(path for path in runs.glob(f"{prefix}*") if len(path.name) == 64 and path.is_dir())
    if len(found) != 1:
        many = f"{len(found)} cells start so: " + ", ".join(path.name[:12] for path in found[:5])
        raise TrackingError(f"fingerprint '{prefix}': {many if found else f'no such cell in {runs}'}")
    return CellRecord(found[0])

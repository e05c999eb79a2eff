"""Change a note that several runners share, as those of a search do.

Runners of one machine take turns by a lock file. On an object store the note is read anew before each change, and is
written on the condition that it is as it was read: of two machines that change it at once, one begins again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from cifar_lab.errors import ObjectStoreError, TrackingError
from cifar_lab.object_store import WriteConflict
from cifar_lab.store.cell_hold import wait_for_store
from cifar_lab.store.invocation import FOLDER, Invocation
from cifar_lab.store.mirror import mirror_of

LOCK = "studies.lock"
TRIES = 100
"""Times that a change begins again after another machine's."""


def change_note(runs: Path, make: Callable[[], Invocation | None]) -> Invocation | None:
    """Write the note that `make` returns from the notes in `runs`, and return it; None if it returns none.

    `make` is called again after another machine has changed the note. A store that does not answer is waited for.

    Raises:
        TrackingError: the note cannot be written.
        ObjectStoreError: the store did not answer for a quarter of an hour, or refuses.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / LOCK):
        for _ in range(TRIES):
            try:
                return wait_for_store(lambda: _change(runs, make))
            except WriteConflict:
                continue
    raise ObjectStoreError(f"{runs / FOLDER}: other machines change a note again and again")


def _change(runs: Path, make: Callable[[], Invocation | None]) -> Invocation | None:
    if (mirror := mirror_of(runs)) is not None:
        mirror.refresh([FOLDER])
    note = make()
    if note is not None:
        try:
            note.write(runs, unless_changed=True)
        except OSError as error:
            raise TrackingError(f"{runs / FOLDER}: cannot be written ({error.strerror or error})") from error
    return note

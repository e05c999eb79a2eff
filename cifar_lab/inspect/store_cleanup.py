"""Find and delete what a redo set aside on an object store.

`superseded/<fingerprint>.<ms since 1970>/` has the whole record of a cell as it was before `--redo`. No command reads
it. It can go once the cell has ended again: until then it is the only result of the cell.
"""

from __future__ import annotations

import re
import shutil
import time

from filelock import Timeout

from cifar_lab.inspect.cleanup import CleanupItem, set_aside_at
from cifar_lab.object_store import ObjectEntry
from cifar_lab.store.cell_record import ENDED, CellRecord
from cifar_lab.store.lease import CellLease, LeaseTaken
from cifar_lab.store.mirror import SUPERSEDED, Mirror

NAME = re.compile(rf"{SUPERSEDED}/(?P<record>(?P<cell>[0-9a-f]{{64}})\.[0-9]{{10,15}})/(?P<file>[^/]+)")
"""Names of the objects of superseded records; others are nobody's, and stay."""


def find_stored_items(mirror: Mirror, older_than: float) -> list[CleanupItem]:
    """Return the superseded records on a store that can be deleted; the copy of the store was refreshed.

    `older_than`: age in seconds from which they are considered; it counts from the redo.

    Raises:
        ObjectStoreError: the store does not answer, or refuses.
    """
    sizes: dict[str, int] = {}
    for name, entry in _objects(mirror).items():
        match = NAME.fullmatch(name)
        if match is not None and CellRecord(mirror.folder / match["cell"]).state() in ENDED:
            sizes[match["record"]] = sizes.get(match["record"], 0) + entry.size
    latest, items = time.time() - older_than, []
    for record, size in sorted(sizes.items()):
        path, address = mirror.folder / SUPERSEDED / record, f"{mirror.address}/{SUPERSEDED}/{record}"
        touched = set_aside_at(path)
        if touched is not None and touched <= latest:
            items.append(CleanupItem(kind="superseded", path=path, size=size, touched=touched, stored=address))
    return items


def free_stored(mirror: Mirror, item: CleanupItem) -> str | None:
    """Delete a superseded record on the store and in this copy; return the reason if it was kept.

    Who moves a record to `superseded/` holds the lease of its cell from before the first copy to after the last
    deletion, so nothing is deleted while another process holds it. The lease of a process that died is taken.

    Raises:
        ObjectStoreError: the store does not answer, or refuses.
        OSError: the folder in the copy cannot be deleted.
    """
    record = CellRecord(mirror.folder / item.path.name.partition(".")[0])
    held = CellLease(mirror.store, record.fingerprint, mirror.name)
    try:
        with record.lock().acquire(timeout=0):
            is_ours = held.take() is None
            try:
                return _delete(mirror, item, record)
            finally:
                if is_ours:
                    held.release()
    except (Timeout, LeaseTaken):
        return "its cell is held now"


def _delete(mirror: Mirror, item: CleanupItem, record: CellRecord) -> str | None:
    if mirror.store.look(f"{record.fingerprint}/result.json") is None:
        return "its cell is not finished"
    objects = [name for name in _objects(mirror, item.path.name) if NAME.fullmatch(name)]
    for name in sorted(objects, key=lambda name: not name.endswith("/result.json")):
        mirror.store.delete(name)  # the result first: what an error leaves is no record
    if item.path.exists():  # the redo was done in this copy
        shutil.rmtree(item.path)
    return None if objects else "it is gone already"


def _objects(mirror: Mirror, record: str = "") -> dict[str, ObjectEntry]:
    return mirror.store.list_objects(f"{SUPERSEDED}/{record}{'/' if record else ''}")[0]

"""Find and delete on an object store what a redo set aside, and checkpoints that nobody goes on from.

`superseded/<fingerprint>.<ms since 1970>/` has the whole record of a cell as it was before `--redo`. No command reads
it. It can go once the cell has ended again: until then it is the only result of the cell. A checkpoint is abandoned if
neither it nor the journal beside it was written for long, and nobody holds the lease of its cell.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping

from filelock import Timeout

from cifar_lab.errors import DamageError
from cifar_lab.inspect.cleanup import CleanupItem, set_aside_at
from cifar_lab.object_store import ObjectEntry
from cifar_lab.store.cell_record import ENDED, CellRecord
from cifar_lab.store.journal import FILE, JournalReader
from cifar_lab.store.lease import CellLease, LeaseTaken
from cifar_lab.store.mirror import SUPERSEDED, Mirror

NAME = re.compile(rf"{SUPERSEDED}/(?P<record>(?P<cell>[0-9a-f]{{64}})\.[0-9]{{10,15}})/(?P<file>[^/]+)")
"""Names of the objects of superseded records; others are nobody's, and stay."""
CHECKPOINT = re.compile(r"(?P<cell>[0-9a-f]{64})/checkpoint\.pt")
"""Names of checkpoints."""


def find_stored_items(mirror: Mirror, older_than: float) -> list[CleanupItem]:
    """Return the checkpoints and superseded records on a store that can be deleted; its copy was refreshed.

    `older_than`: age in seconds from which they are considered: of a checkpoint since the last write of it or of the
    journal beside it, of a superseded record since the redo.

    Raises:
        ObjectStoreError: the store does not answer, or refuses.
    """
    objects, _ = mirror.store.list_objects()
    now = time.time()
    checkpoints = [match["cell"] for name in sorted(objects) if (match := CHECKPOINT.fullmatch(name)) is not None]
    items = [item for cell in checkpoints for item in _checkpoint(mirror, cell, objects, now, older_than)]
    sizes: dict[str, int] = {}
    for name, entry in objects.items():
        match = NAME.fullmatch(name)
        if match is not None and CellRecord(mirror.folder / match["cell"]).state() in ENDED:
            sizes[match["record"]] = sizes.get(match["record"], 0) + entry.size
    for record, size in sorted(sizes.items()):
        path, address = mirror.folder / SUPERSEDED / record, f"{mirror.address}/{SUPERSEDED}/{record}"
        touched = set_aside_at(path)
        if touched is not None and touched <= now - older_than:
            items.append(CleanupItem(kind="superseded", path=path, size=size, touched=touched, stored=address))
    return items


def _checkpoint(
    mirror: Mirror, fingerprint: str, objects: Mapping[str, ObjectEntry], now: float, older_than: float
) -> Iterator[CleanupItem]:
    """Yield the checkpoint of a cell if it can be deleted, at any age if its cell has ended, as in a plain folder."""
    record = CellRecord(mirror.folder / fingerprint)
    state = record.state()
    if state in {"running", "damaged"}:
        return
    try:
        points = JournalReader(record.folder).poll()
    except DamageError:  # how much progress goes with it is not known
        return
    names = (f"{fingerprint}/{record.checkpoint.name}", f"{fingerprint}/{FILE}")
    entries = [objects[name] for name in names if name in objects]
    age, has_ended = min(entry.age for entry in entries), state in ENDED
    if has_ended or age >= older_than:
        yield CleanupItem(
            kind="leftover" if has_ended else "checkpoint", path=record.checkpoint, size=entries[0].size,
            touched=now - age, epoch=points[-1].epoch if points and not has_ended else 0, cell=record,
            stored=f"{mirror.address}/{names[0]}", etags=tuple(entry.etag for entry in entries),
        )  # fmt: skip


def free_stored(mirror: Mirror, item: CleanupItem) -> str | None:
    """Delete an item on the store and in this copy; return the reason if it was kept.

    Who trains a cell, or moves its record to `superseded/`, holds its lease from before the first request to after the
    last, so nothing is deleted while another process holds it. The lease of a process that died is taken.

    Raises:
        ObjectStoreError: the store does not answer, or refuses.
        OSError: the file or folder in the copy cannot be deleted.
    """
    record = item.cell or CellRecord(mirror.folder / item.path.name.partition(".")[0])
    held = CellLease(mirror.store, record.fingerprint, mirror.name)
    try:
        with record.lock().acquire(timeout=0):
            is_ours = held.take() is None
            try:
                delete = _delete_superseded if item.kind == "superseded" else _delete_checkpoint
                return delete(mirror, item, record)
            finally:
                if is_ours:
                    held.release()
    except (Timeout, LeaseTaken):
        return "its cell is held now"


def _delete_checkpoint(mirror: Mirror, item: CleanupItem, record: CellRecord) -> str | None:
    name = f"{record.fingerprint}/{item.path.name}"
    found = [mirror.store.look(each) for each in (name, f"{record.fingerprint}/{FILE}")]
    if found[0] is None:
        return "it is gone already"
    if tuple(entry.etag for entry in found if entry is not None) != item.etags:
        return "somebody has gone on from it meanwhile"
    mirror.store.delete(name, found[0].etag)
    item.path.unlink(missing_ok=True)
    mirror.keep(record.fingerprint, {k: v for k, v in mirror.kept(record.fingerprint).items() if k != item.path.name})
    return None


def _delete_superseded(mirror: Mirror, item: CleanupItem, record: CellRecord) -> str | None:
    if mirror.store.look(f"{record.fingerprint}/result.json") is None:
        return "its cell is not finished"
    objects = mirror.store.list_objects(f"{SUPERSEDED}/{item.path.name}/")[0]
    names = [name for name in objects if NAME.fullmatch(name)]
    for name in sorted(names, key=lambda name: not name.endswith("/result.json")):
        mirror.store.delete(name)  # the result first: what an error leaves is no record
    if item.path.exists():  # the redo was done in this copy
        shutil.rmtree(item.path)
    return None if names else "it is gone already"

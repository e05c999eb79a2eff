"""Local copies of runs folders on an object store: every reader and writer of records works in such a copy.

The store has the files of a runs folder under the same names, and `lease.json` beside each record. A copy lies in the
cache of one machine and can be deleted whenever nothing runs there:

    <cache>/stores/<host>/<digest>/.store.json     address, and a random name of this copy
    <cache>/stores/<host>/<digest>/.objects/*.json  etag, and size and time of the local file, of each object
    <cache>/stores/<host>/<digest>/<fingerprint>/   as in any runs folder

`Mirror.refresh` brings what changed. Large files (checkpoints, weights, predictions) come when they are read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_lab.errors import ObjectStoreError, TrackingError
from cifar_lab.object_store import ObjectEntry, ObjectStore, StoredObject, WriteConflict, copies
from cifar_lab.store import cell_owner, lease
from cifar_lab.store.kept_objects import Kept, KeptObject, grow_file, read_kept, replace_file, version_of, write_kept
from cifar_lab.store.record_files import OwnerFile
from cifar_lab.store.stored_json import write_stored

FOLDER, MARK, OBJECTS = "stores", ".store.json", ".objects"
SMALL = ("code.diff", "cell.json", "journal.jsonl", "confusion.csv", "failure.json", "result.json")
"""Files of a record that every reader gets; the result is last, as it refers to the others."""
RESUMED = ("checkpoint.pt",)
"""Further files of a record that the holder of the cell gets."""
LOCAL = ("lock", cell_owner.FILE)
"""Files of a record that never leave a machine."""
CELL = re.compile("[0-9a-f]{64}")
NAME = re.compile(
    r"(?P<folder>[0-9a-f]{64}|invocations|ablations)/(?P<file>[\w+-][\w.+ -]{0,250})", re.ASCII
)  # fmt: skip
"""Names of the objects that are copied; others are nobody's."""
SUPERSEDED = "superseded"
REFRESH = 10.0
"""Seconds between two looks at the store while something is awaited."""
_log = logging.getLogger(__name__)


class Mirror:
    """Local copy of a runs folder on an object store."""

    def __init__(self, folder: Path, address: str, name: str) -> None:
        self.folder, self.store, self.name = folder, ObjectStore(address), name
        self._refreshed = -REFRESH

    @property
    def address(self) -> str:
        """Address of the store."""
        return self.store.address

    def refresh(self, folders: Iterable[str] | None = None, *, every: float = 0.0) -> None:
        """Bring what changed on the store since the last time; cells that are trained in this copy are left alone.

        Args:
            folders: fingerprints to look at; None: everything.
            every: seconds since the last time before which nothing is done.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        if every and time.monotonic() - self._refreshed < every:
            return
        there, at_once = self._list(folders)
        plans = {folder: plan for folder in there if (plan := self._plan(folder, there[folder])) is not None}
        if not at_once:  # between two requests a cell may have ended: its result could be newer than the rest
            ended = [folder for folder, (wanted, _) in plans.items() if "result.json" in wanted]
            there |= self._list(ended)[0] if ended else {}
            plans |= {folder: plan for folder in ended if (plan := self._plan(folder, there[folder])) is not None}
        names = [f"{folder}/{file}" for folder, (wanted, _) in plans.items() for file in wanted]
        contents = self.store.read_many(names)
        for folder, (wanted, kept) in plans.items():
            found = {file: contents[f"{folder}/{file}"] for file in wanted}
            with self._free(folder) as is_free:
                if is_free:
                    self._apply(folder, there[folder], found, kept)
        if folders is None:
            self._refreshed = time.monotonic()

    def pull(self, folder: str) -> Kept:
        """Make the record of a cell equal to the store's, with its checkpoint; files of nobody are deleted.

        The caller holds the lock of the cell, and its lease.
        """
        entries = self._list([folder])[0][folder]
        wanted, kept = self._plan(folder, entries, further=RESUMED) or ([], self.kept(folder))
        wanted = [file for file in wanted if file != lease.FILE]  # it is the caller's
        place = self.folder / folder
        place.mkdir(parents=True, exist_ok=True)
        contents = self.store.read_many([f"{folder}/{file}" for file in wanted])
        self._apply(folder, entries, {file: contents[f"{folder}/{file}"] for file in wanted}, kept)
        for path in place.iterdir():
            if path.name not in kept and path.name not in LOCAL and path.is_file():
                path.unlink()
        return kept

    def fetch(self, path: Path) -> bool:
        """Bring a large file that is not here; return whether the store has it.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        name = path.relative_to(self.folder).as_posix()
        found = self.store.read(name)
        if found is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = path.parent.name
        self.keep(folder, {**self.kept(folder), path.name: KeptObject(found.etag, replace_file(path, found.content))})
        return True

    def knows(self, path: Path) -> bool:
        """Tell whether the store had a file at the last refresh."""
        return path.name in self.kept(path.parent.name)

    def push(self, path: Path, *, unless_changed: bool = False) -> None:
        """Write a note or an ablation to the store; if it cannot be written there, it is deleted here, too.

        `unless_changed`: other machines may write it, and it is written only if it is there as it was last seen here.

        Raises:
            WriteConflict: with `unless_changed`, it is not; the next refresh brings what is there.
            ObjectStoreError: the store does not answer, or refuses.
        """
        folder = path.parent.name
        version, name, known = version_of(path), f"{folder}/{path.name}", self.kept(folder).get(path.name)
        try:
            if unless_changed:
                etag = self.store.write_if(name, path.read_bytes(), known.etag if known is not None else None)
            else:
                etag = self.store.write(name, path.read_bytes())
        except (ObjectStoreError, WriteConflict):
            path.unlink()
            raise
        self.keep(folder, {**self.kept(folder), path.name: KeptObject(etag, version)})

    def move_aside(self, folder: str, to: str, held: lease.CellLease) -> None:
        """Move the record of a cell, whose lease is `held`, to `superseded/` on the store, without its lease.

        Raises:
            LeaseLost: copying took longer than the lease, and another process has the cell; nothing is deleted.
            ObjectStoreError: the store does not answer, or refuses.
        """
        entries = self._list([folder])[0][folder]
        files = sorted(entries.keys() - {lease.FILE}, key=lambda file: (file == "result.json", file))
        for file in files:
            self.store.copy(f"{folder}/{file}", f"{SUPERSEDED}/{to}/{file}")
        held.renew()
        for file in reversed(files):  # without its result, the rest of a record is no finished cell
            self.store.delete(f"{folder}/{file}", entries[file].etag)
        self._manifest(folder).unlink(missing_ok=True)

    def require_conditions(self) -> None:
        """Check that the store can be written to, and refuses writes whose condition does not hold.

        Raises:
            ObjectStoreError: it does not.
        """
        name = f".probe-{uuid.uuid4().hex}"
        etag = self.store.write_if(name, b"1", None)
        try:
            for condition in (None, '"0123456789abcdef0123456789abcdef"'):
                with suppress(WriteConflict):
                    self.store.write_if(name, b"2", condition)
                    raise ObjectStoreError(
                        f"{self.address}: the server ignores conditions on writes (If-None-Match, If-Match), without "
                        "which two machines would train one cell"
                    )
            self.store.write_if(name, b"3", etag)
        finally:
            self.store.delete(name)

    def note_owner(self, folder: str, found: lease.LeaseFile | None, age: float) -> None:
        """Write a lease of another copy as `owner.json`, by which the record is in training; delete it for any other.

        Its time is by the clock of this machine.
        """
        path = self.folder / folder / cell_owner.FILE
        if found is None or not found.is_alive(age) or found.is_of(self.name):
            path.unlink(missing_ok=True)
            return
        owner = OwnerFile(
            host=found.host, machine=f"{found.machine} {found.mirror}", pid=found.pid, beat=found.beat,
            time=time.time_ns() // 1_000_000 - round(1000 * age), seconds=found.seconds + lease.ROUNDING,
            **({"task": found.task} if found.task else {}),
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_stored(path, owner)

    def kept(self, folder: str) -> Kept:
        """Return the objects of a folder as they were last seen."""
        return read_kept(self._manifest(folder))

    def keep(self, folder: str, kept: Kept) -> None:
        """Record how the objects of a folder were seen."""
        write_kept(self._manifest(folder), kept)

    def _manifest(self, folder: str) -> Path:
        return self.folder / OBJECTS / f"{folder}.json"

    def _list(self, folders: Iterable[str] | None) -> tuple[dict[str, dict[str, ObjectEntry]], bool]:
        """Return the objects by folder and file, and whether they were listed by one request.

        Folders of which something is kept are there, too, even without objects.
        """
        if folders is None:
            entries, at_once = self.store.list_objects()
            there = {path.stem: dict[str, ObjectEntry]() for path in (self.folder / OBJECTS).glob("*.json")}
        else:
            there, entries, at_once = {folder: {} for folder in folders}, {}, True
            for folder in there:
                entries |= self.store.list_objects(f"{folder}/")[0]
        for name, entry in entries.items():
            match = NAME.fullmatch(name)
            if match is not None and match["file"] not in LOCAL:
                there.setdefault(match["folder"], {})[match["file"]] = entry
        return there, at_once

    def _plan(
        self, folder: str, entries: Mapping[str, ObjectEntry], further: tuple[str, ...] = ()
    ) -> tuple[list[str], Kept] | None:
        """Return the files to be read, and the objects as last seen; None if nothing changed."""
        kept = self.kept(folder)
        small = (*SMALL, lease.FILE, *further) if CELL.fullmatch(folder) else tuple(entries)
        changed = [file for file, entry in entries.items() if not self._is_kept(folder, file, entry, kept)]
        absent = [file for file in small if file in entries and file != lease.FILE and self._is_absent(file, kept)]
        if not changed and not absent and kept.keys() <= entries.keys():
            return None
        wanted = dict.fromkeys(file for file in (*changed, *absent) if file in small)
        return sorted(wanted, key=lambda file: file == "result.json"), kept

    def _is_kept(self, folder: str, file: str, entry: ObjectEntry, kept: Kept) -> bool:
        """Tell whether the local file, if any, has the content of an object."""
        known = kept.get(file)
        return known is not None and known.etag == entry.etag and (
            known.version is None or known.version == version_of(self.folder / folder / file)
        )  # fmt: skip

    def _is_absent(self, file: str, kept: Kept) -> bool:
        return file not in kept or kept[file].version is None

    def _apply(
        self, folder: str, entries: Mapping[str, ObjectEntry], found: Mapping[str, StoredObject | None], kept: Kept
    ) -> None:
        """Write what was read, and delete what is gone or outdated; the caller holds the lock of the cell."""
        place = self.folder / folder
        place.mkdir(parents=True, exist_ok=True)
        for file, content in found.items():
            if content is None:  # deleted meanwhile; the next refresh will tell
                continue
            if file == lease.FILE:
                self.note_owner(folder, lease.parse_lease(content), content.age)
                kept[file] = KeptObject(content.etag)
            else:
                put = grow_file if file == "journal.jsonl" else replace_file
                kept[file] = KeptObject(content.etag, put(place / file, content.content))
        for file, entry in entries.items():
            if file not in found and not self._is_kept(folder, file, entry, kept):
                (place / file).unlink(missing_ok=True)
                kept[file] = KeptObject(entry.etag)
        for file in kept.keys() - entries.keys():
            (place / file).unlink(missing_ok=True)
            del kept[file]
        self.keep(folder, kept)

    @contextmanager
    def _free(self, folder: str) -> Iterator[bool]:
        """Hold the lock of a cell for a moment; False for a cell that is trained in this copy."""
        if not CELL.fullmatch(folder):
            yield True
            return
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.folder / folder / "lock")
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


_mirrors: dict[Path, Mirror] = {}


def open_mirror(address: str, folders: Iterable[str] | None = None) -> Path:
    """Return the folder of this machine's copy of the runs folder at `address`, after it was refreshed.

    Args:
        address: as `object_store.parse_address` returns it.
        folders: fingerprints to refresh; None: everything.

    Raises:
        ObjectStoreError: the store does not answer, or refuses.
        UsageError: the package for it is not installed.
        TrackingError: the cache cannot be written.
    """
    from cifar_lab.data.cache import VARIABLE, root  # loads numpy

    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    folder = (root() / FOLDER / socket.gethostname() / digest).resolve()
    try:
        if mirror_of(folder) is None:
            _make(folder, address)
        mirror = mirror_of(folder)
        if mirror is None:
            raise TrackingError(f"{folder / MARK}: damaged; delete this folder, a copy of {address}")
        mirror.refresh(folders)
    except OSError as error:
        line = error.strerror or error
        raise TrackingError(f"{folder}: cannot be written ({line}); {VARIABLE} names another cache") from error
    return folder


def mirror_of(runs: Path) -> Mirror | None:
    """Return the local copy that a runs folder is; None for any other folder."""
    if runs in _mirrors:
        return _mirrors[runs]
    try:
        tree = json.loads((runs / MARK).read_bytes())
        if tree["folder"] != str(runs):  # a copy of a copy is a folder like any other
            return None
        _mirrors[runs] = Mirror(runs, str(tree["address"]), str(tree["name"]))
        copies[runs] = _mirrors[runs].address
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return _mirrors[runs]


def refresh_runs(runs: Path, folders: Iterable[str] | None = None, *, every: float = 0.0) -> None:
    """Bring what changed on the store if `runs` is a copy of one; a store that does not answer is a warning.

    The arguments are those of `Mirror.refresh`.
    """
    mirror = mirror_of(runs)
    if mirror is None:
        return
    try:
        mirror.refresh(folders, every=every)
    except ObjectStoreError as error:
        _log.warning("warning: %s", error)


def _make(folder: Path, address: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{MARK}.lock"):  # of two processes one names the copy
        if not (folder / MARK).exists():
            tree = {"address": address, "folder": str(folder), "name": uuid.uuid4().hex}
            replace_file(folder / MARK, json.dumps(tree).encode())

"""A packed study: one zip with records and notes, unpacked once into the user's cache and read from there.

    README.md, ro-crate-metadata.json, requirements.txt, CITATION.cff, tables/*.md, tables/*.tex
    runs/<fingerprint>/cell.json, result.json, failure.json, journal.jsonl, confusion.csv, code.diff, predictions.npz,
                       weights.safetensors
    runs/invocations/<id>.json
    runs/studies.journal

A zip is somebody else's: any other name, a link, a name twice, an encrypted member, too many or too large members are
refused before a byte is written. Records and notes must have the SHA-256 that the metadata name, if there are metadata;
what is unpacked is then judged by the checksums of the records like any runs folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from cifar_lab.data.cache import VARIABLE, root
from cifar_lab.errors import DamageError, TrackingError, shortened
from cifar_lab.object_store import copies
from cifar_lab.out_of_space import is_out_of_space
from cifar_lab.store import checksum
from cifar_lab.store.invocation import FOLDER
from cifar_lab.store.runs_folder import STUDIES

RUNS = "runs/"
METADATA = "ro-crate-metadata.json"
BESIDE = re.compile(
    r"(README\.md|ro-crate-metadata\.json|requirements\.txt|CITATION\.cff|tables/[\w.+ -]{1,200}\.(md|tex))"
)
NOTE = re.compile(rf"{RUNS}{FOLDER}/[0-9]{{8}}T[0-9]{{6}}\.[0-9]{{3}}-[\w.+ -]{{1,200}}\.json")
FILES = {
    "cell.json": 1 << 26, "result.json": 1 << 26, "failure.json": 1 << 26, "journal.jsonl": 1 << 28,
    "confusion.csv": 1 << 26, "code.diff": 1 << 26, "predictions.npz": 1 << 30, "weights.safetensors": 1 << 32,
}  # fmt: skip
"""Files of a record that are packed, with the most bytes of each that are read back."""
LARGEST = 1 << 26
"""Most bytes of any other member, but for the trials of searches."""
TRIALS, MOST_OF_TRIALS = f"{RUNS}{STUDIES}", 1 << 28
RECORD = re.compile(rf"{RUNS}([0-9a-f]{{64}})/({'|'.join(map(re.escape, FILES))})")
FOLDERS = re.compile(rf"(tables|runs|runs/{FOLDER}|runs/[0-9a-f]{{64}})/")
MOST = 100_000
"""Most members of an archive."""
DIRECTORY = 1 << 26
"""Most bytes of an archive's directory, which is read into memory."""
RATIO, FREE = 100, 1 << 26
"""Most bytes unpacked for each byte of the archive, beyond the first 64 MiB. Records shrink to about a third."""
TOTAL = 1 << 38
"""Most bytes unpacked in all: 256 GiB."""
END, TAIL = b"PK\x05\x06", 22 + 0xFFFF
"""Signature of the record at the end of a zip, and the most bytes from there to the end of the file."""
WITHOUT_PREDICTIONS = b"without predictions"
"""Comment of a zip whose records were packed without predictions."""
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, UnicodeError,
          ValueError)  # fmt: skip
"""Exceptions of `zipfile` on invalid bytes."""


def study_folder(runs: Path) -> Path:
    """Return a runs folder as it is, and of a packed study the folder that it is unpacked to.

    Raises:
        TrackingError: the file is no packed study, or is damaged.
    """
    return unpack(runs) if runs.is_file() else runs


def has_predictions(path: Path) -> bool:
    """Tell whether a packed study was made with the predictions of its records; `unpack` has checked the file."""
    with zipfile.ZipFile(path) as archive:
        return archive.comment != WITHOUT_PREDICTIONS


def unpack(path: Path) -> Path:
    """Return the runs folder of a packed study, unpacked in the cache under the SHA-256 of the file.

    The folder is only to be read. It is made once: a later call checks names and sizes.

    Raises:
        TrackingError: the file is no packed study, or the cache cannot be written.
        DamageError: the zip is damaged; the message names the member.
        OSError: the cache's disk is full.
    """
    try:
        with checksum.open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            with _opened(path, file) as archive:
                members = _members(path, archive, os.fstat(file.fileno()).st_size)
                folder = _kept(path, archive, members, digest)
    except OSError as error:
        if is_out_of_space(error):
            raise OSError(error.errno, error.strerror, str(root())) from error
        if error.filename is not None and str(error.filename) != str(path):
            raise _unwritable(error) from error
        raise TrackingError(f"runs {path}: cannot be read ({error.strerror or error})") from error
    copies[folder] = str(path)
    return folder


@contextmanager
def _opened(path: Path, file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - TAIL))
    tail = file.read(TAIL)
    place = tail.rfind(END)
    if place < 0 or len(tail) - place < 22:
        what = "neither a folder of records nor a packed study; `cifar-lab pack` makes one"
        raise TrackingError(f"runs {path}: {what}")
    count, length = struct.unpack("<HI", tail[place + 10 : place + 16])
    if min(length, size) > DIRECTORY and length != 0xFFFFFFFF:
        raise TrackingError(f"runs {path}: not read: its directory has {length:,} bytes, {DIRECTORY:,} at most")
    if length == 0xFFFFFFFF or count == 0xFFFF:  # more than 65,535 members or 4 GiB: sizes are in a second record
        _require_small_directory(path, tail[:place])
    try:
        archive = zipfile.ZipFile(file)
    except BROKEN as error:
        raise DamageError(f"runs {path}: damaged: not a whole zip ({error})") from error
    with archive:
        yield archive


def _require_small_directory(path: Path, before: bytes) -> None:
    """Check the size of a directory in the record of a large zip, which stands right before the last one."""
    place = before.rfind(b"PK\x06\x06")
    if place < 0 or len(before) - place < 56:
        raise DamageError(f"runs {path}: damaged: not a whole zip")
    (length,) = struct.unpack("<Q", before[place + 40 : place + 48])
    if length > DIRECTORY:
        raise TrackingError(f"runs {path}: not read: its directory has {length:,} bytes, {DIRECTORY:,} at most")


def _members(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members with records and notes by name, after all members were checked.

    Raises:
        TrackingError: one of them is not what a packed study holds, or they are too many or too large.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > MOST:
        raise TrackingError(f"runs {path}: not read: {len(infos):,} members, {MOST:,} at most")
    seen, total = set[str](), 0
    for info in infos:
        name = info.orig_filename
        if (why := _refused(info, seen)) is not None:
            raise TrackingError(f"runs {path}: not read: its member {shortened(name, 120)!r} {why}")
        seen.add(name.casefold())
        total += info.file_size
        if name.startswith(RUNS) and not name.endswith("/"):
            found[name] = info
    most = min(TOTAL, FREE + RATIO * size)
    if total > most:
        raise TrackingError(f"runs {path}: not read: it would be {total:,} bytes unpacked, {most:,} at most")
    if not found:
        raise TrackingError(f"runs {path}: no packed study: it holds no record and no note; `cifar-lab pack` makes one")
    return found


def limit_of(name: str) -> int | None:
    """Return the most bytes of a member of this name; None if a packed study holds no such member."""
    if (record := RECORD.fullmatch(name)) is not None:
        return FILES[record[2]]
    if name == TRIALS:
        return MOST_OF_TRIALS
    return LARGEST if NOTE.fullmatch(name) or BESIDE.fullmatch(name) else None


def _refused(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    """Return the reason why a member is refused; None if it may be read."""
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    if name.endswith("/"):  # `is_dir` raises an error for an empty name
        return None if FOLDERS.fullmatch(name) and not info.file_size else "is no part of a packed study"
    limit = limit_of(name)
    if limit is None:
        return "is no part of a packed study"
    if name.casefold() in seen:
        return "is there twice"
    if kind not in {0, stat.S_IFREG}:
        return "is a link or a device, not a file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "is compressed in another way than `cifar-lab pack` does"
    return f"has {info.file_size:,} bytes, {limit:,} at most" if info.file_size > limit else None


def _kept(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], digest: str) -> Path:
    """Return the unpacked runs folder, which is made if it is missing or not whole."""
    place = root() / "studies" / digest
    if not _is_whole(place, members):
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}.", suffix=".partial", dir=place.parent))
        try:
            digests = _digests(path, archive)
            lost = sorted(name for name in digests if name.startswith(RUNS) and name not in members)
            if lost:
                raise DamageError(_damaged(path, lost[0], f"not there, although {METADATA} names it"))
            for name, info in members.items():
                found = _extract(path, archive, info, partial / name)
                if digests.get(name, found) != found:
                    raise DamageError(_damaged(path, name, f"not as packed: its SHA-256 is not that in {METADATA}"))
            _put(partial, place, members)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place / "runs"


def _put(partial: Path, place: Path, members: dict[str, zipfile.ZipInfo]) -> None:
    """Rename `partial` to `place`; what stands there is replaced, but for a whole copy that another process made."""
    if place.exists() and not _is_whole(place, members):
        place.rename(partial / "replaced")
    try:
        partial.rename(place)
    except OSError:
        if not _is_whole(place, members):
            raise
    shutil.rmtree(place / "replaced", ignore_errors=True)


def _is_whole(place: Path, members: dict[str, zipfile.ZipInfo]) -> bool:
    """Tell whether a folder holds these members, by name and size, and nothing else."""
    found = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if not path.is_dir()}
    return found.keys() == members.keys() and all(
        stat.S_ISREG((status := path.lstat()).st_mode) and status.st_size == members[name].file_size
        for name, path in found.items()
    )


def _digests(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the SHA-256 of files by name, from the metadata; empty without metadata."""
    if METADATA not in archive.namelist():
        return {}
    try:
        graph = json.loads(archive.read(METADATA))["@graph"]
        return {unquote(str(each["@id"])): str(each["sha256"]) for each in graph if "sha256" in each}
    except (*BROKEN, TypeError, KeyError, RecursionError) as error:
        raise DamageError(_damaged(path, METADATA, f"cannot be read ({error})")) from error


def _extract(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> str:
    """Write one member to a new file that is only to be read, never more bytes than claimed; return its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left, digest = info.file_size, hashlib.sha256()
    with target.open("xb") as file:
        try:
            with archive.open(info) as source:
                while block := source.read(min(1 << 20, left + 1)):
                    left -= len(block)
                    if left < 0:
                        break
                    digest.update(block)
                    file.write(block)
        except BROKEN as error:
            raise DamageError(_damaged(path, info.filename, str(error))) from error
    if left:
        raise DamageError(_damaged(path, info.filename, "not as long as the zip claims"))
    target.chmod(0o444)
    return digest.hexdigest()


def _damaged(path: Path, name: str, why: str) -> str:
    return f"runs {path}: damaged: {name}: {why}; copy the file again"


def _unwritable(error: OSError) -> TrackingError:
    reason = error.strerror or error
    return TrackingError(
        f"the cache folder {str(root())!r} cannot be written: {reason}; set {VARIABLE} to one that can"
    )

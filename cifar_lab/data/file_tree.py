"""Uniform access to a folder, a zip or a tar archive: list a folder, read one file, without unpacking to disk.

Hidden files and files that operating systems leave behind are not listed. Every read is limited, so a file that
unpacks into gigabytes gives a one-line error. Nothing is written, and links inside an archive are not followed.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import BadZipFile, ZipFile, ZipInfo, is_zipfile

from cifar_lab.data.messages import is_ignored, leads_out, parts, short_line, shown
from cifar_lab.errors import DataError

LARGEST_UNPACKED = 1 << 30
"""Maximum unpacked bytes of a tar archive; CIFAR-10 takes 184 million."""
MOST_MEMBERS = 1_000_000
"""Maximum number of files in an archive."""

BROKEN = (  # exceptions of zipfile, tarfile and the unpackers on invalid bytes
    *(OSError, EOFError, RuntimeError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError),
    *(BadZipFile, tarfile.TarError, struct.error, zlib.error, lzma.LZMAError, NotImplementedError),
)


class FolderListing(NamedTuple):
    """The entries of one folder, sorted by name."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FileTree:
    """Files below one root. Names are relative to it, `train/cat/1.png`; the root itself is the empty name."""

    listing: Callable[[str], FolderListing]
    """Returns the entries of a folder."""
    read: Callable[[str, int], bytes]
    """Returns the content of a file, up to one byte more than the given limit."""
    state: Callable[[str], str]
    """Returns size and time of a file as text, which differs after a change."""


@contextmanager
def opened(path: Path) -> Iterator[FileTree]:
    """Open the folder, zip or tar archive `path`.

    Raises:
        DataError: it is neither, or damaged, or holds a name that leads outside of it.
    """
    if path.is_dir():
        yield folder_files(path)
        return
    start = read_start(path)
    if is_tar(start):
        yield tar_files(path)
    elif start.startswith(b"PK") or is_zipfile(path):  # a zip may have a prefix
        with _zip(path) as archive:
            yield zip_files(archive)
    else:
        raise DataError(f"neither a folder nor a zip or tar archive: it starts with {start[:4]!r}")


def read_start(path: Path) -> bytes:
    """Return the first 512 bytes of the regular file `path`.

    Raises:
        DataError: `path` is neither a folder nor a file.
    """
    if not path.is_file():
        raise DataError("neither a folder nor a file")
    with path.open("rb") as file:
        return file.read(512)


def is_tar(start: bytes) -> bool:
    """Tell whether these first bytes are those of a tar archive, plain or compressed by gzip or bzip2."""
    return start.startswith((b"\x1f\x8b", b"BZh")) or start[257:262] == b"ustar"


def folder_files(root: Path) -> FileTree:
    """Return the files of the folder `root`, read from disk on demand."""

    @cache
    def listing(folder: str) -> FolderListing:
        with os.scandir(root / folder) as scan:
            entries = sorted((e for e in scan if not is_ignored(e.name)), key=lambda entry: entry.name)
        folders = {entry.name for entry in entries if entry.is_dir()}
        return FolderListing(tuple(sorted(folders)), tuple(e.name for e in entries if e.name not in folders))

    def read(name: str, limit: int) -> bytes:
        _require_file(root, name)
        with (root / name).open("rb") as file:
            return file.read(limit + 1)

    def state(name: str) -> str:
        found = _require_file(root, name)
        return f"{found.st_size} {found.st_mtime_ns}"

    return FileTree(listing=listing, read=read, state=state)


def _require_file(root: Path, name: str) -> os.stat_result:
    """Return the stat of a regular file; reject a broken link, or a pipe that could block forever."""
    try:
        found = (root / name).stat()
    except OSError as error:
        raise DataError(f"{shown(name)} is not a file: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{shown(name)} is not a file")
    return found


@contextmanager
def _zip(path: Path) -> Iterator[ZipFile]:
    try:
        archive = ZipFile(path)
    except BROKEN as error:
        raise DataError(f"the zip is truncated or damaged ({short_line(error)}); copy it again") from error
    with archive:
        yield archive


def zip_files(archive: ZipFile) -> FileTree:
    """Return the files of a zip, each unpacked into memory when it is read."""
    members: dict[str, ZipInfo] = {}
    for member in archive.infolist():
        if not member.is_dir() and (name := _checked(member.filename, "zip", members)):
            members[name] = member

    def read(name: str, limit: int) -> bytes:
        try:
            with archive.open(members[name]) as file:
                return file.read(limit + 1)  # limited, whatever size the zip's directory claims
        except BROKEN as error:
            raise DataError(f"{shown(name)} cannot be read from the zip: {short_line(error)}") from error

    return FileTree(listing=_listing(members), read=read, state=lambda name: str(members[name].CRC))


def tar_files(path: Path) -> FileTree:
    """Return the files of a tar archive, unpacked into memory in one pass.

    Raises:
        DataError: the archive is damaged, too large, or holds links or devices.
    """
    contents: dict[str, bytes] = {}
    try:
        with _unpacked(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.isdir() or not (name := _checked(member.name, "archive", contents)):
                    continue
                if not member.isreg() or member.issparse():
                    kind = "link" if member.issym() or member.islnk() else "device or a sparse file"
                    raise DataError(f"{shown(name)} is a {kind}; expected plain files")
                file = archive.extractfile(member)
                contents[name] = file.read() if file else b""
                if len(contents[name]) != member.size:
                    raise DataError(f"{shown(name)} is cut off in the archive")
            while stream.read(1 << 20):  # to its end, where the checksum is
                pass
    except BROKEN as error:
        raise DataError(f"the archive is truncated or damaged ({short_line(error)}); copy it again") from error

    def read(name: str, limit: int) -> bytes:
        return contents[name][: limit + 1]

    return FileTree(listing=_listing(contents), read=read, state=lambda name: str(len(contents[name])))


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open the tar stream of `path`; reading more than `LARGEST_UNPACKED` bytes from it is an error."""
    with path.open("rb") as file:
        start = file.read(3)
        file.seek(0)
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(file) as stream:
                yield _Bounded(stream)  # type: ignore[misc]
        elif start == b"BZh":
            with bz2.open(file) as stream:
                yield _Bounded(stream)  # type: ignore[misc]
        else:
            yield _Bounded(file)  # type: ignore[misc]


class _Bounded:
    """Stream that counts the bytes read from it."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile | bz2.BZ2File) -> None:
        self._stream, self._count = stream, 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._count += len(data)
        if self._count > LARGEST_UNPACKED:
            raise DataError(
                f"the archive unpacks into more than {LARGEST_UNPACKED:,} bytes; CIFAR-10 takes 184 million"
            )
        return data


def _checked(name: str, what: str, names: dict[str, ZipInfo] | dict[str, bytes]) -> str:
    """Return a member's name without `./`, or empty if it is to be ignored; reject unsafe or invalid members."""
    if leads_out(name):
        raise DataError(f"{shown(name)} leads out of the {what}")
    plain = parts(name)
    if any(map(is_ignored, plain)):
        return ""
    if (joined := "/".join(plain)) in names:
        raise DataError(f"{shown(joined)} is in the {what} twice")
    if len(names) >= MOST_MEMBERS:
        raise DataError(f"the {what} holds more than {MOST_MEMBERS:,} files")
    return joined


def _listing(names: Iterable[str]) -> Callable[[str], FolderListing]:
    """Return a function that lists one folder, given the names of all files."""
    folders: dict[str, set[str]] = {"": set()}
    files: dict[str, set[str]] = {"": set()}
    for name in names:
        above = ""
        *path, last = name.split("/")
        for part in path:
            folders[above].add(part)
            above = f"{above}/{part}" if above else part
            folders.setdefault(above, set())
            files.setdefault(above, set())
        files[above].add(last)

    def listing(folder: str) -> FolderListing:
        return FolderListing(tuple(sorted(folders.get(folder, ()))), tuple(sorted(files.get(folder, ()))))

    return listing

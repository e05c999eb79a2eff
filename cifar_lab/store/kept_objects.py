"""Objects of a store as a local copy last saw them: their etags, and the files with their contents."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

LocalVersion = tuple[int, int, int]
"""Size, time of the last change in ns, and inode of a local file."""


class KeptObject(NamedTuple):
    """Object as it was last seen: its etag, and the local file with its content; None without one."""

    etag: str
    version: LocalVersion | None = None


Kept = dict[str, KeptObject]
"""Objects of one folder by the name of their file."""


def read_kept(path: Path) -> Kept:
    """Return the objects of one folder from the file `path`; without a readable one, as if none was ever seen."""
    try:
        tree = json.loads(path.read_bytes())
        return {
            str(file): KeptObject(str(etag), (int(rest[0]), int(rest[1]), int(rest[2])) if rest else None)
            for file, (etag, *rest) in tree.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, IndexError):
        return {}


def write_kept(path: Path, kept: Mapping[str, KeptObject]) -> None:
    """Write the objects of one folder to the file `path`."""
    path.parent.mkdir(exist_ok=True)
    tree = {file: [each.etag, *(each.version or ())] for file, each in kept.items()}
    replace_file(path, json.dumps(tree).encode())


def version_of(path: Path) -> LocalVersion | None:
    """Return the version of a local file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def grow_file(path: Path, content: bytes) -> LocalVersion:
    """Replace a file, or append what is new to it, so that its readers go on where they are."""
    before = path.read_bytes() if path.is_file() else b""
    if not before or not content.startswith(before):
        return replace_file(path, content)
    with path.open("ab") as file:
        file.write(content[len(before) :])
    version = version_of(path)
    assert version is not None, "it was written just now"
    return version


def replace_file(path: Path, content: bytes) -> LocalVersion:
    """Replace a file of the copy, and return its version. It is not forced to the disk: the store has it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
        version = version_of(partial)
        assert version is not None, "it was written just now"
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return version

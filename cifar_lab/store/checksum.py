"""Checksums of stored JSON, to detect changes on the disk: damaged content is never used.

A JSON object carries the SHA-256 of its other fields in the field `sha256`. The digest is computed from the canonical
text (sorted keys, no blanks), so that neither the order of fields nor the layout of a file matters. Objects without
the field were written by earlier versions, and are accepted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from cifar_lab.errors import DamageError
from cifar_lab.store import atomic_file

FIELD = "sha256"
DIGITS = 64
"""Hexadecimal digits of a full digest; a line of a journal carries fewer."""
CHANGED = "its checksum does not match: it was changed after it was written"


def seal(tree: Mapping[str, Any], digits: int = DIGITS) -> dict[str, Any]:
    """Return `tree` after a JSON round trip, with its checksum in `FIELD`; ValueError for NaN and infinity."""
    rest: dict[str, Any] = json.loads(json.dumps({**tree, FIELD: None}, allow_nan=False))
    del rest[FIELD]
    return {**rest, FIELD: _digest(rest)[:digits]}


def unseal(tree: dict[str, Any], digits: int = DIGITS) -> dict[str, Any] | None:
    """Return `tree` without its checksum; None if the checksum does not match."""
    if FIELD not in tree:
        return tree
    rest = {name: value for name, value in tree.items() if name != FIELD}
    return rest if tree[FIELD] == _digest(rest)[:digits] else None


def is_sealed(tree: Mapping[str, Any]) -> bool:
    """Tell whether `tree` carries a checksum; records of earlier versions do not."""
    return FIELD in tree


def lacks_checksum(path: Path) -> bool:
    """Tell whether `path` is a JSON object without a checksum, as written by earlier versions."""
    try:
        tree = json.loads(content(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and FIELD not in tree


def write_sealed(path: Path, tree: Mapping[str, Any]) -> None:
    """Write `tree` with its checksum as the JSON file `path`, atomically."""
    atomic_file.write_json(path, seal(tree))


def read_sealed(path: Path) -> Any:
    """Return the JSON content of `path`, without its checksum; None if there is no such file.

    Raises:
        DamageError: the file cannot be read, is not JSON, or its checksum does not match.
    """
    text = b""
    try:
        text = content(path)
        tree = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except RecursionError as error:
        raise DamageError(f"{path}: damaged: brackets within brackets, too deep to be read") from error
    except ValueError as error:
        raise DamageError(f"{path}: damaged: {f'not JSON ({error})' if text else 'empty'}") from error
    if not isinstance(tree, dict):
        return tree
    rest = unseal(tree)
    if rest is None:
        raise DamageError(f"{path}: damaged: {CHANGED}")
    return rest


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; OSError for other kinds: reading a pipe could block forever."""
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def content(path: Path) -> bytes:
    """Return the content of a regular file; OSError if it cannot be read."""
    with open_regular(path) as file:
        return file.read()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits; OSError if it cannot be read."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _digest(tree: Any) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""Things that stand where a file or folder of another kind is expected, and what a user may not read."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Entries = dict[str, tuple[str, bytes]]


def clear(path: Path) -> None:
    """Remove whatever has this name, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_pipe(path: Path) -> None:
    """Put a named pipe there: who opens it waits for a writer that never comes."""
    clear(path)
    os.mkfifo(path)


def put_folder(path: Path) -> None:
    """Put a folder with a file there."""
    clear(path)
    path.mkdir()
    (path / "precious").write_text("mine")


def put_file(path: Path) -> None:
    """Put a file there."""
    clear(path)
    path.write_text("mine")


def swap(one: Path, other: Path) -> None:
    """Give each of two files the other's name."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def entries(folder: Path) -> Entries:
    """Return everything below a folder, by its path: its kind, and what a file or link holds."""
    return {str(path.relative_to(folder)): _entry(path) for path in sorted(folder.rglob("*"))}


def _entry(path: Path) -> tuple[str, bytes]:
    if path.is_symlink():
        return "link", bytes(path.readlink())
    if path.is_dir():
        return "folder", b""
    return ("file", path.read_bytes()) if path.is_file() else ("pipe", b"")


def deny(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the right to read a file or folder; where root runs the tests, let the system's calls refuse it."""
    path.chmod(0)
    if not os.access(path, os.R_OK):
        return
    refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(place: Any = ".", *rest: Any, **named: Any) -> Any:
            if not isinstance(place, int) and Path(place) == path:
                raise refusal
            return call(place, *rest, **named)

        return guarded

    access = os.access
    monkeypatch.setattr(
        os, "access", lambda place, *rest, **named: Path(place) != path and access(place, *rest, **named)
    )
    monkeypatch.setattr(os, "open", refusing(os.open))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))

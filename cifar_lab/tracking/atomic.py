"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let `fill` write a temporary sibling, force it to the disk, and rename it to `path`.

    A reader sees the old file or the new one, never half of one, whenever the process or the machine dies.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_json(path: Path, tree: object) -> None:
    """`write` for a JSON tree; NaN and infinity are refused with ValueError."""
    text = json.dumps(tree, indent=1, allow_nan=False) + "\n"
    write(path, lambda file: file.write(text.encode()))


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder has no descriptor there, and a rename is already durable
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

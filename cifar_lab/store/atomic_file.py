"""Atomic file writes: a file is either complete or missing."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cifar_lab.errors import UsageError

if TYPE_CHECKING:
    import numpy as np


def require_place(output: Path, name: str, endings: Collection[str] = (), *, option: str = "-o") -> None:
    """Check that a file can be written, before anything is read.

    Args:
        output: the file.
        name: name of a file that is suggested where a folder was given.
        endings: extensions that it may have; empty for all.
        option: name of the argument in errors.

    Raises:
        UsageError: it is a folder, its folder does not exist, or its extension is none of `endings`.
    """
    if output.is_dir():
        raise UsageError(f"{option} {output}: a folder; a file is wanted, {output / name}")
    if not output.parent.is_dir():
        raise UsageError(f"{option} {output}: no such folder: {output.parent}")
    if endings and output.suffix.lower() not in endings:
        raise UsageError(f"{option} {output}: the extension is one of {', '.join(endings)}")


def write_atomically(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let `fill` write a temporary sibling, force it to the disk, and rename it to `path`.

    A reader sees either the old or the new file, never a partial one, even if the process or machine dies. A link is
    followed. A device or a pipe is written to directly, since renaming a file to it would replace it.

    Raises:
        OSError: the write failed, with `path` as the file name; a full disk raises it whatever library writes.
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            fill(file)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _naming(path, error) from error
    except RuntimeError as error:  # torch's writer raises an error of its own for it
        if not isinstance(error.__context__, OSError):
            raise
        raise _naming(path, error.__context__) from error
    finally:
        partial.unlink(missing_ok=True)


def _naming(path: Path, error: OSError) -> OSError:
    """Return an error of the same kind about `path` instead of its temporary sibling or no file."""
    return OSError(error.errno, error.strerror, str(path)) if error.errno is not None else error


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, tree: object) -> None:
    """Write a JSON tree atomically; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed `.npz` atomically."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows: folders have no descriptor, and a rename is already durable
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

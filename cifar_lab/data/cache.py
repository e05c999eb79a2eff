"""Cache of decoded images on disk, memory-mapped, so that many processes share the same pages.

    <root>/<key>/   train_images.npy  train_labels.npy  test_images.npy  test_labels.npy  meta.json  checked.json

An entry is written beside its final path and renamed, so every existing entry is complete. It can be deleted at any
time; that costs only the time to decode. Every byte of it is hashed at its first use, and again when the size or time
of a file has changed; `checked.json` holds them. A damaged entry is created again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from platformdirs import user_cache_dir
from pydantic import BaseModel, ConfigDict, Field

from cifar_lab.data.dataset import Dataset, Kind
from cifar_lab.errors import DataError

VARIABLE = "CIFAR_LAB_CACHE"
CHECKED = "checked.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class _Meta(BaseModel):
    """`meta.json`: the fields of a Dataset other than arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, from_attributes=True)

    name: str
    kind: Kind
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Kept(_Meta):
    """`meta.json` with checksums to detect damage."""

    files: dict[str, str]
    """SHA-256 of each array's file."""
    check: str
    """SHA-256 of all other fields."""


def root() -> Path:
    """Return the folder of all entries: `$CIFAR_LAB_CACHE`, else the user's cache folder. It need not exist."""
    return Path(os.environ.get(VARIABLE) or user_cache_dir("cifar-lab"))


def open_or_make(key: str, make: Callable[[], Dataset]) -> Dataset:
    """Return the entry of `key`, mapped read-only. If it is missing or damaged, `make` is called and its result kept.

    If several processes ask at once, one calls `make` and the others wait for it. An error of `make` is raised and
    leaves no entry.

    Raises:
        DataError: a new entry cannot be written (a finished one is only read).
    """
    entry = root() / key
    if (ready := kept(key)) is not None:
        return ready
    lock = FileLock(entry.with_name(f".{key}.lock"))
    with _explained():
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if (ready := kept(key)) is not None:  # another process may have made it while this one waited
            return ready
        dataset = make()
        with _explained():
            _write(entry, dataset)
        return kept(key) or dataset
    finally:
        lock.release()


def kept(key: str) -> Dataset | None:
    """Return the entry of `key`, mapped read-only; None if it is missing or any byte has changed."""
    entry = root() / key
    try:
        before = _state(entry)
        is_checked = _is_checked(entry, before)
        meta = _Kept.model_validate_json((entry / "meta.json").read_bytes())
        if not is_checked and not _is_whole(entry, meta):
            return None
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        if _state(entry) != before:  # replaced while it was read; the next attempt reads the new one
            return None
    except (OSError, ValueError, EOFError):
        return None
    splits = (("train_images", "train_labels"), ("test_images", "test_labels"))
    if not all(_belong(arrays[images], arrays[labels], len(meta.classes)) for images, labels in splits):
        return None
    if arrays["train_images"].shape[1:] != arrays["test_images"].shape[1:]:
        return None
    if not is_checked:
        _keep_checked(entry, before)
    return Dataset(**meta.model_dump(exclude={"files", "check"}), **arrays)


@contextmanager
def _explained() -> Iterator[None]:
    """Convert an error of the file system to one line with advice."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        message = f"the cache folder {str(root())!r} cannot be written: {reason}; set {VARIABLE} to one that can"
        raise DataError(message) from error


def _state(entry: Path) -> dict[str, list[int]]:
    """Return {file: [time of change in ns, bytes, inode]} of an entry."""
    names = [*(f"{name}.npy" for name in ARRAYS), "meta.json"]
    stats = {name: (entry / name).stat() for name in names}
    if not all(stat.S_ISREG(each.st_mode) for each in stats.values()):  # reading a pipe could block forever
        raise ValueError("an entry holds regular files")
    return {name: [each.st_mtime_ns, each.st_size, each.st_ino] for name, each in stats.items()}


def _is_checked(entry: Path, state: dict[str, list[int]]) -> bool:
    """Tell whether every file was hashed in its present state."""
    try:
        path = entry / CHECKED
        return path.is_file() and bool(json.loads(path.read_bytes()) == state)
    except (OSError, ValueError, RecursionError):
        return False


def _is_whole(entry: Path, meta: _Kept) -> bool:
    """Tell whether each file has its original checksum."""
    sums = {name: _sha256(entry / f"{name}.npy") for name in ARRAYS}
    return meta.files == sums and meta.check == _check(meta)


def _keep_checked(entry: Path, state: dict[str, list[int]]) -> None:
    """Record that the files were hashed. A read-only cache is hashed again by the next process."""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(dir=entry, prefix=f".{CHECKED}.")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(state, file)
            Path(name).chmod(0o644)
            Path(name).replace(entry / CHECKED)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(meta: _Kept) -> str:
    """Return the SHA-256 of all fields but `check`."""
    return hashlib.sha256(json.dumps(meta.model_dump(exclude={"check"}), sort_keys=True).encode()).hexdigest()


def _belong(images: NDArray[Any], labels: NDArray[Any], classes: int) -> bool:
    """Tell whether these are (N, side, side, 3) bytes and N labels of `classes` classes."""
    return (
        images.dtype == np.uint8
        and labels.dtype == np.int64
        and labels.ndim == 1
        and images.ndim == 4
        and images.shape == (len(labels), images.shape[1], images.shape[1], 3)
        and len(labels) > 0
        and 0 <= labels.min() <= labels.max() < classes
    )


def _write(entry: Path, dataset: Dataset) -> None:
    """Replace `entry` by `dataset` atomically. The caller holds the lock."""
    partial = entry.with_name(f".{entry.name}.partial")
    _remove(partial)  # left by a process that was killed
    partial.mkdir()
    try:
        for name in ARRAYS:
            with (partial / f"{name}.npy").open("wb") as file:
                np.save(file, getattr(dataset, name), allow_pickle=False)
                os.fsync(file.fileno())  # otherwise a power failure could leave a finished name on unwritten pixels
        fields = _Meta.model_validate(dataset).model_dump()
        meta = _Kept(**fields, files={name: _sha256(partial / f"{name}.npy") for name in ARRAYS}, check="")
        meta = meta.model_copy(update={"check": _check(meta)})
        (partial / "meta.json").write_text(meta.model_dump_json(indent=2))
        _remove(entry)  # processes that have a damaged entry mapped keep its pages
        partial.rename(entry)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    """Remove `path`: a folder with its content, or a file or link, but not the target of a link."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)

"""Decoded images, kept once on disk and memory-mapped, so that many processes share the same pages.

    <root>/<key>/   train_images.npy  train_labels.npy  test_images.npy  test_labels.npy  meta.json  checked.json

An entry is written beside its place and renamed into it, so an entry that is there was finished. It can be deleted at
any time; that loses nothing but the time to decode. Every byte of it is hashed when it is first used, and again when
the size or time of a file has changed since; `checked.json` keeps them. A damaged entry is made again.
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
from typing import Annotated, Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from platformdirs import user_cache_dir
from pydantic import BaseModel, ConfigDict, Field

from cifar_lab.data.dataset import Dataset
from cifar_lab.errors import DataError

VARIABLE = "CIFAR_LAB_CACHE"
CHECKED = "checked.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class _Meta(BaseModel):
    """`meta.json`: the fields of a Dataset that are no arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, from_attributes=True)

    name: str
    kind: Literal["cifar10", "path", "synthetic"]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Kept(_Meta):
    """`meta.json` with the checksums by which damage is noticed."""

    files: dict[str, str]
    """sha256 of each array's file."""
    check: str
    """sha256 of all other fields."""


def root() -> Path:
    """Return the folder of all entries: `$CIFAR_LAB_CACHE`, else the user's cache folder. It need not exist."""
    return Path(os.environ.get(VARIABLE) or user_cache_dir("cifar-lab"))


def open_or_make(key: str, make: Callable[[], Dataset]) -> Dataset:
    """Return the entry of `key`, mapped read-only. If it is absent or damaged, `make` is called and its result kept.

    Of several processes that ask at once, one calls `make` and the others wait for it. An error of `make` is passed on
    and leaves no entry.

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
    """Return the entry of `key`, mapped read-only; None if it is absent or any byte is not as it was written."""
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
    if not is_checked:
        _keep_checked(entry, before)
    return Dataset(**meta.model_dump(exclude={"files", "check"}), **arrays)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn an error of the file system into one line that says what to do."""
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
    if not all(stat.S_ISREG(each.st_mode) for each in stats.values()):  # a pipe would be waited for without end
        raise ValueError("an entry holds regular files")
    return {name: [each.st_mtime_ns, each.st_size, each.st_ino] for name, each in stats.items()}


def _is_checked(entry: Path, state: dict[str, list[int]]) -> bool:
    """Return whether every file was hashed in the state in which it is now."""
    try:
        path = entry / CHECKED
        return path.is_file() and bool(json.loads(path.read_bytes()) == state)
    except (OSError, ValueError, RecursionError):
        return False


def _is_whole(entry: Path, meta: _Kept) -> bool:
    """Return whether each file has the checksum that it was written with."""
    sums = {name: _sha256(entry / f"{name}.npy") for name in ARRAYS}
    return meta.files == sums and meta.check == _check(meta)


def _keep_checked(entry: Path, state: dict[str, list[int]]) -> None:
    """Note that the files were hashed. A cache that may only be read is hashed again by the next process."""
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
    """Return the sha256 of all fields but `check`."""
    return hashlib.sha256(json.dumps(meta.model_dump(exclude={"check"}), sort_keys=True).encode()).hexdigest()


def _belong(images: NDArray[Any], labels: NDArray[Any], classes: int) -> bool:
    """Return whether these are (N, 32, 32, 3) bytes and N labels of `classes` classes."""
    return (
        images.dtype == np.uint8
        and labels.dtype == np.int64
        and labels.ndim == 1
        and images.shape == (len(labels), 32, 32, 3)
        and len(labels) > 0
        and 0 <= labels.min() <= labels.max() < classes
    )


def _write(entry: Path, dataset: Dataset) -> None:
    """Put `dataset` in `entry`'s place, all at once. The caller holds the lock."""
    partial = entry.with_name(f".{entry.name}.partial")
    _remove(partial)  # left there by a process that was killed
    partial.mkdir()
    try:
        for name in ARRAYS:
            with (partial / f"{name}.npy").open("wb") as file:
                np.save(file, getattr(dataset, name), allow_pickle=False)
                os.fsync(file.fileno())  # or a power cut could leave a finished name on unwritten pixels
        fields = _Meta.model_validate(dataset).model_dump()
        meta = _Kept(**fields, files={name: _sha256(partial / f"{name}.npy") for name in ARRAYS}, check="")
        meta = meta.model_copy(update={"check": _check(meta)})
        (partial / "meta.json").write_text(meta.model_dump_json(indent=2))
        _remove(entry)  # a damaged one; whoever has it mapped keeps its pages
        partial.rename(entry)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    """Remove what stands at `path`: a folder with all in it, or a file or link itself, never what the link leads to."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)

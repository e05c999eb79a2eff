"""Decoded images, kept once on disk and memory-mapped, so that many processes share the same pages.

    <root>/<key>/   train_images.npy  train_labels.npy  test_images.npy  test_labels.npy  meta.json

An entry is written beside its place and renamed into it: what stands there was finished. It is a hint and no
more: a damaged one is made again, and deleting any of it, at any time, loses nothing but the time to decode.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class _Meta(BaseModel):
    """`meta.json`: the fields of a Dataset that are no arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, from_attributes=True)

    name: str
    kind: Literal["cifar10", "path", "synthetic"]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def root() -> Path:
    """The folder of all entries: `$CIFAR_LAB_CACHE`, else the user's cache folder. It need not exist."""
    return Path(os.environ.get(VARIABLE) or user_cache_dir("cifar-lab"))


def open_or_make(key: str, make: Callable[[], Dataset]) -> Dataset:
    """The entry of `key`, mapped read-only. If it is absent or damaged, `make` is called and its result kept.

    Of several processes that ask at once, one calls `make` and the others wait for it. What `make` raises is
    passed on and leaves no entry. DataError: a new entry cannot be written (a finished one is only read).
    """
    entry = root() / key
    kept = _read(entry)
    if kept is not None:
        return kept
    lock = FileLock(entry.with_name(f".{key}.lock"))
    with _explained():
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        kept = _read(entry)  # another process may have made it while this one waited
        if kept is not None:
            return kept
        made = make()
        with _explained():
            _write(entry, made)
        return _read(entry) or made
    finally:
        lock.release()


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what the file system refuses into one line that says what to do."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        message = f"the cache folder {str(root())!r} cannot be written: {reason}; set {VARIABLE} to one that can"
        raise DataError(message) from error


def _read(entry: Path) -> Dataset | None:
    """What `entry` holds; None when it is absent or anything in it is not as `_write` leaves it."""
    try:
        meta = _Meta.model_validate_json((entry / "meta.json").read_bytes())
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
    except (OSError, ValueError, EOFError):
        return None
    splits = (("train_images", "train_labels"), ("test_images", "test_labels"))
    if not all(_belong(arrays[images], arrays[labels], len(meta.classes)) for images, labels in splits):
        return None
    return Dataset(**dict(meta), **arrays)


def _belong(images: NDArray[Any], labels: NDArray[Any], classes: int) -> bool:
    """Whether these are (N, 32, 32, 3) bytes and N labels of `classes` classes."""
    return (
        images.dtype == np.uint8
        and labels.dtype == np.int64
        and labels.ndim == 1
        and images.shape == (len(labels), 32, 32, 3)
        and len(labels) > 0
        and 0 <= labels.min() <= labels.max() < classes
    )


def _write(entry: Path, dataset: Dataset) -> None:
    """Puts `dataset` in `entry`'s place, all at once. The caller holds the lock."""
    partial = entry.with_name(f".{entry.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left there by a process that was killed
    partial.mkdir()
    try:
        for name in ARRAYS:
            with (partial / f"{name}.npy").open("wb") as file:
                np.save(file, getattr(dataset, name), allow_pickle=False)
                os.fsync(file.fileno())  # or a power cut could leave a finished name on unwritten pixels
        (partial / "meta.json").write_text(_Meta.model_validate(dataset).model_dump_json(indent=2))
        shutil.rmtree(entry, ignore_errors=True)  # a damaged one; whoever has it mapped keeps its pages
        partial.rename(entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

"""Read CIFAR's own files: the Python batches (pickles) of CIFAR-10 and CIFAR-100, and binary batches of CIFAR-10."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cifar_lab.data import original_images, unpickle
from cifar_lab.data.dataset import ImageArrays, Images, Kind, Labels
from cifar_lab.data.file_tree import FileTree
from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError

TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
TRAIN_100, TEST_100, META_100 = "train", "test", "meta"
"""Files of `cifar-100-python`."""
Batches = tuple[tuple[str, ...], ImageArrays, Kind | None]
"""Class names, images and labels, and the data set that they are if every file has the md5 that torchvision enforces.
"""
LARGEST, LARGEST_100 = 64 << 20, 320 << 20
"""Maximum bytes of one batch; an original one has 31 million, that of CIFAR-100 155 million."""


def read_python(files: FileTree, folder: str) -> Batches:
    """Read `cifar-10-batches-py`."""
    sums: dict[str, str] = {}

    def batch(name: str) -> tuple[Images, Labels]:
        data = _whole(files, folder + name)
        sums[name] = original_images.md5(data)
        return _python_batch(folder + name, data)

    arrays = _joined([batch(name) for name in TRAIN], batch(TEST))
    names = _class_names(files, folder, "batches.meta")
    is_original = sums == original_images.PYTHON_MD5 and names == original_images.CLASSES
    return names, arrays, "cifar10" if is_original else None


def read_binary(files: FileTree, folder: str) -> Batches:
    """Read `cifar-10-batches-bin`, which has no published md5 for each file."""
    train = [_binary_batch(files, f"{folder}{name}.bin") for name in TRAIN]
    arrays = _joined(train, _binary_batch(files, f"{folder}{TEST}.bin"))
    return _class_names(files, folder, "batches.meta.txt"), arrays, None


def images_of_planes(planes: np.ndarray) -> Images:
    """Convert (N, 3 * side²) bytes (red, green and blue plane, row by row) to (N, side, side, 3) images."""
    side = math.isqrt(planes[0].size // 3) if len(planes) else 32
    return np.ascontiguousarray(planes.reshape(-1, 3, side, side).transpose(0, 2, 3, 1))


def read_cifar100(files: FileTree, folder: str) -> Batches:
    """Read `cifar-100-python` with its fine labels."""
    sums: dict[str, str] = {}

    def content(name: str) -> bytes:
        data = _whole(files, folder + name, LARGEST_100)
        sums[name] = original_images.md5(data)
        return data

    train, test = (_python_batch(folder + name, content(name), "fine_labels") for name in (TRAIN_100, TEST_100))
    names = _text_list(folder + META_100, content(META_100), "fine_label_names")
    return names, ImageArrays(*train, *test), "cifar100" if sums == original_images.CIFAR100_MD5 else None


READERS: Mapping[str, Callable[[FileTree, str], Batches]] = {
    "python": read_python, "binary": read_binary, "cifar100": read_cifar100,
}  # fmt: skip
"""Reader by kind of layout."""


def _whole(files: FileTree, name: str, largest: int = LARGEST) -> bytes:
    data = files.read(name, largest)
    if len(data) > largest:
        raise DataError(f"{shown(name)} is larger than {largest:,} bytes, which no batch of CIFAR is")
    return data


def _python_batch(name: str, data: bytes, key: str = "labels") -> tuple[Images, Labels]:
    batch = _unpickled(name, data)
    pixels, labels = batch.get("data"), batch.get(key)
    if isinstance(pixels, np.ndarray) and pixels.ndim == 4 and pixels.shape[1:] == (3, 32, 32):
        pixels = pixels.reshape(len(pixels), original_images.RECORD - 1)
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == original_images.RECORD - 1
    ):
        raise DataError(f"{shown(name)} has no 'data' of (N, 3072) bytes, which a batch of CIFAR has")
    try:
        numbers = np.asarray(labels, dtype=np.int64) if isinstance(labels, list | np.ndarray) else None
    except (TypeError, ValueError, OverflowError):
        numbers = None
    if numbers is None or numbers.shape != (len(pixels),):
        raise DataError(f"{shown(name)} has no '{key}', one whole number an image, which a batch of CIFAR has")
    return images_of_planes(pixels), numbers


def _binary_batch(files: FileTree, name: str) -> tuple[Images, Labels]:
    data = _whole(files, name)
    if not data or len(data) % original_images.RECORD:
        raise DataError(f"{shown(name)} has {len(data):,} bytes; expected records of {original_images.RECORD:,}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, original_images.RECORD)
    return images_of_planes(rows[:, 1:]), rows[:, 0].astype(np.int64)


def _class_names(files: FileTree, folder: str, meta: str) -> tuple[str, ...]:
    """Return the class names in the file `meta`; CIFAR-10's own if there is no such file."""
    if meta not in files.listing(folder.rstrip("/")).files:
        return original_images.CLASSES
    data = _whole(files, folder + meta)
    if meta.endswith(".txt"):
        return tuple(data.decode("utf-8", "replace").split())
    return _text_list(folder + meta, data, "label_names")


def _text_list(path: str, data: bytes, key: str) -> tuple[str, ...]:
    """Return the list of text under `key` in a pickled dict."""
    names = _unpickled(path, data).get(key)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise DataError(f"{shown(path)} has no '{key}', a list of text")
    return tuple(names)


def _unpickled(name: str, data: bytes) -> dict[Any, Any]:
    """Return the pickled dict; an empty one if something else was pickled."""
    try:
        content = unpickle.unpickle(data)
    except DataError as error:
        raise DataError(f"{shown(name)} is {error}") from error
    return content if isinstance(content, dict) else {}


def _joined(train: list[tuple[Images, Labels]], test: tuple[Images, Labels]) -> ImageArrays:
    images, labels = zip(*train, strict=True)
    return ImageArrays(np.concatenate(images), np.concatenate(labels), *test)

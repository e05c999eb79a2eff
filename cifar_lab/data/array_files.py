"""Read images stored as arrays: NumPy's npz, and the parquet files of public dataset hubs."""

from __future__ import annotations

import io
import json
import math
import re
import tokenize
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cifar_lab.data import decoding
from cifar_lab.data.cifar_batches import images_of_planes
from cifar_lab.data.dataset import ImageArrays, Images, Labels
from cifar_lab.data.file_tree import BROKEN, FileTree
from cifar_lab.data.layouts import SPLIT_NAMES
from cifar_lab.data.messages import short_line, shown
from cifar_lab.data.validation import MOST_CLASSES, check_side
from cifar_lab.errors import DataError

LARGEST = 1 << 30
"""Maximum bytes of one array, and of one parquet file."""
MOST_ROWS = 200_000
"""Maximum number of images in one parquet file; it limits the unpacked size of a small file."""

ROLES = {
    **dict.fromkeys(("x", "image", "images", "img", "imgs", "data"), "images"),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), "labels"),
}
CLASS_NAMES = ("classes", "class_names", "label_names", "labels_names")
IMAGE_COLUMNS, LABEL_COLUMNS = ("img", "image"), ("label", "labels")


def read_npz(files: FileTree) -> tuple[tuple[str, ...], ImageArrays, bool]:
    """Read an npz whose arrays are named `x_train`, `y_train`, … or `train_images`, `train_labels`, ….

    Returns:
        Class names (of the array `classes`, or the labels' numbers), arrays, and whether val is used as test.

    Raises:
        DataError: an array is missing, damaged, there twice, or does not hold images or labels.
    """
    names = {name.removesuffix(".npy"): name for name in files.listing("").files if name.endswith(".npy")}
    roles: dict[tuple[str, str], str] = {}
    for name in sorted(names):
        if (role := _role(name)) is not None:
            if role in roles:
                raise DataError(f"{shown(roles[role])} and {shown(name)} both stand for the {' '.join(role)}")
            roles[role] = name
    held_out = "test" if ("test", "images") in roles else "val"
    wanted = [(split, kind) for split in ("train", held_out) for kind in ("images", "labels")]
    if missing := [" ".join(role).replace("val", "test") for role in wanted if role not in roles]:
        holds = ", ".join(sorted(names)[:6]) or "nothing"
        raise DataError(f"no {missing[0]}; expected arrays x_train, y_train, x_test, y_test, and it holds {holds}")
    parts: list[tuple[Images, Labels]] = []
    for split in ("train", held_out):
        of_images, of_labels = roles[split, "images"], roles[split, "labels"]
        images = _images(of_images, read_array(files, names[of_images]))
        labels = labels_of_array(of_labels, read_array(files, names[of_labels]))
        if len(images) != len(labels):
            raise DataError(f"{len(images):,} images and {len(labels):,} labels in {split}")
        parts.append((images, labels))
    classes = _numbered(*(labels for _, labels in parts))
    for key in CLASS_NAMES:
        if key in names:
            classes = _names(key, read_array(files, names[key]))
    return classes, ImageArrays(*parts[0], *parts[1]), held_out == "val"


def _names(key: str, array: NDArray[Any]) -> tuple[str, ...]:
    """Return class names of an array of text, of bytes in UTF-8 or of numbers."""
    try:
        values = array.ravel().tolist()
        return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)
    except (SystemError, ValueError) as error:  # bytes of another encoding, numbers that are no characters
        raise DataError(
            f"{shown(key)} holds class names that are no text; expected Unicode, or bytes in UTF-8"
        ) from error


def _numbered(*labels: Labels) -> tuple[str, ...]:
    """Return class names for labels without names: their numbers up to the largest."""
    return tuple(map(str, range(max(int(part.max(initial=0)) + 1 for part in labels))))


def _role(name: str) -> tuple[str, str] | None:
    """Return (split, images or labels) of an array's name such as `x_train` or `trainLabels`; None for another."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    roles = {ROLES[word] for word in words if word in ROLES}
    if roles == {"images", "labels"}:  # e.g. `image_labels`
        roles = {"labels"}
    return (splits.pop(), roles.pop()) if len(splits) == len(roles) == 1 else None


def read_array(files: FileTree, name: str) -> NDArray[Any]:
    """Read one npy file, whose header is checked before memory is allocated; pickled objects are rejected.

    Raises:
        DataError: the file is too large, damaged, or holds values of another type.
    """
    data = files.read(name, LARGEST)
    if len(data) > LARGEST:
        raise DataError(f"{shown(name)} is larger than {LARGEST:,} bytes")
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = header(stream)
        if dtype.kind not in "uibUS":
            kind = "pickled objects" if dtype.hasobject else f"values of type {dtype}"
            raise DataError(f"{shown(name)} holds {kind}; expected images of type uint8 and whole numbers as labels")
        size = math.prod(shape) * dtype.itemsize
        if size != len(data) - stream.tell():
            raise DataError(f"{shown(name)} is truncated or damaged: {size:,} bytes by its header")
        array: NDArray[Any] = np.frombuffer(data, dtype, offset=stream.tell())
        return array.reshape(shape, order="F" if is_fortran else "C")
    except (*BROKEN, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise DataError(f"{shown(name)} is not an array of NumPy: {short_line(error)}") from error


def _images(name: str, array: NDArray[Any]) -> Images:
    """Convert (N, side, side, 3), (N, 3, side, side) or (N, 3 * side²), planes first, to (N, side, side, 3) bytes."""
    if array.dtype == np.uint8:
        if array.ndim == 4 and array.shape[3] == 3:
            check_side(name, *array.shape[1:3])
            return np.ascontiguousarray(array)
        if array.ndim == 4 and array.shape[1] == 3:
            check_side(name, *array.shape[2:])
            return images_of_planes(np.ascontiguousarray(array))
        side = math.isqrt(array.shape[1] // 3) if array.ndim == 2 else 0
        if array.ndim == 2 and array.shape[1] == 3 * side * side:
            check_side(name, side, side)
            return images_of_planes(np.ascontiguousarray(array))
    raise DataError(f"{shown(name)} is {array.shape} of {array.dtype}; expected (N, side, side, 3) of uint8, 0 … 255")


def labels_of_array(name: str, array: NDArray[Any]) -> Labels:
    """Convert labels of shape (N,) or (N, 1) to (N,) int64.

    Raises:
        DataError: they are of another shape or type, or outside of the supported classes.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "ui":
        raise DataError(f"{shown(name)} is {array.shape} of {array.dtype}; expected (N,) whole numbers")
    if len(array):
        _check_range(name, int(array.min()), int(array.max()))
    return array.astype(np.int64)


def _check_range(name: str, least: int, most: int) -> None:
    """Reject labels outside of the supported classes, before they are counted or converted to 64-bit integers."""
    if not 0 <= least <= most < MOST_CLASSES:
        raise DataError(f"{shown(name)} has labels from {least} to {most}; expected 0 … {MOST_CLASSES - 1} at most")


def read_parquet(files: FileTree, train: list[str], test: list[str]) -> tuple[tuple[str, ...], ImageArrays]:
    """Read parquet files with columns `img` or `image` (bytes of an image file) and `label` (a number).

    Class names are those in the hub's metadata of the files, else the labels' numbers.

    Raises:
        DataError: a file is damaged, has other columns, or names other classes than the rest.
    """
    parts = [_parquet_split(files, names) for names in (train, test)]
    if parts[0][0] != parts[1][0]:
        raise DataError(f"{shown(train[0])} and {shown(test[0])} name other classes")
    classes = parts[0][0]
    if classes is None:
        classes = _numbered(*(labels for _, _, labels in parts))
    return classes, ImageArrays(*parts[0][1:], *parts[1][1:])


def _parquet_split(files: FileTree, names: list[str]) -> tuple[tuple[str, ...] | None, Images, Labels]:
    images: list[Images] = []
    labels: list[int] = []
    classes: tuple[str, ...] | None = None
    with warnings.catch_warnings(action="ignore"):  # Pillow's, on large images and palettes, which `pixels` handles
        for name in names:
            classes, rows = _parquet_rows(files, name)
            for index, (data, label) in enumerate(rows):
                side = len(images[0]) if images else None
                images.append(decoding.decode_image(f"{name}, row {index}", data, side))
                labels.append(label)
    if not images:
        raise DataError(f"{shown(names[0])} has no rows")
    _check_range(names[0], min(labels), max(labels))
    return classes, np.stack(images), labels_of_array(names[0], np.array(labels, dtype=np.int64))


def _parquet_rows(files: FileTree, name: str) -> tuple[tuple[str, ...] | None, Iterator[tuple[bytes, int]]]:
    """Return class names and an iterator of (bytes of an image file, label) of one parquet file."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    data = files.read(name, LARGEST)
    if len(data) > LARGEST:
        raise DataError(f"{shown(name)} is larger than {LARGEST:,} bytes")

    def explained(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (*BROKEN, pyarrow.ArrowException) as error:
            raise DataError(f"{shown(name)} is not a whole parquet file: {short_line(error)}") from error

    table = explained(lambda: parquet.ParquetFile(pyarrow.BufferReader(data)))
    columns = table.schema_arrow.names
    image = next((column for column in IMAGE_COLUMNS if column in columns), None)
    label = next((column for column in LABEL_COLUMNS if column in columns), None)
    if image is None or label is None:
        raise DataError(f"{shown(name)} has columns {shown(', '.join(columns))}; expected img or image, and label")
    if table.metadata.num_rows > MOST_ROWS:
        raise DataError(f"{shown(name)} has {table.metadata.num_rows:,} rows; at most {MOST_ROWS:,} are read")

    def rows() -> Iterator[tuple[bytes, int]]:
        batches = explained(lambda: table.iter_batches(batch_size=1024, columns=[image, label]))
        while (batch := explained(lambda: next(batches, None))) is not None:
            for row in explained(batch.to_pylist):
                content = row[image]["bytes"] if isinstance(row[image], dict) and "bytes" in row[image] else row[image]
                if not (isinstance(content, bytes) and type(row[label]) is int):
                    raise DataError(f"{shown(name)} has a row without the bytes of an image or without a label")
                yield content, row[label]

    return _parquet_classes(table.schema_arrow.metadata or {}, label), rows()


def _parquet_classes(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """Return the class names in the hub's metadata of a file, or None."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    is_text = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_text else None

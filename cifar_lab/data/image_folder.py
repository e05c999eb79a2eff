"""Read images in one folder per class, train/<class>/* and test/<class>/*, or in Kaggle's layout.

Square images of one size. Invalid data are rejected in one line that names the file, before anything is kept.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cifar_lab.data import decoding, validation
from cifar_lab.data.dataset import ImageArrays, Images, Labels
from cifar_lab.data.file_tree import FileTree
from cifar_lab.data.layouts import EXPECTED, Layout
from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError

HELD_OUT = 5
"""One in this many of Kaggle's labelled images is held out as test: the last of each class by number."""
LARGEST_CSV = 8 << 20


class DecodedImages(NamedTuple):
    """Class names, images, and numbers by which the images may be sorted."""

    classes: tuple[str, ...]
    arrays: ImageArrays
    train_rank: Labels | None = None
    test_rank: Labels | None = None


def read_classes(files: FileTree, layout: Layout, say: Callable[[str], None]) -> DecodedImages:
    """Read train/<class>/* and test/<class>/*, in the order of the files' names. `say` gets one line.

    Raises:
        DataError: a file is not in the folder of a class, not an image, or the two splits differ in their classes.
    """
    train = [(name, _class_of(name, layout.folder)) for name in layout.train]
    test = [(name, _class_of(name, layout.folder)) for name in layout.test]
    classes = _common_classes({label for _, label in train}, {label for _, label in test})
    number = {label: index for index, label in enumerate(classes)}
    numbers = [[number[label] for _, label in part] for part in (train, test)]
    validation.check_classes(classes, *numbers)  # before the images are decoded
    say(f"{len(train) + len(test):,} images")
    names = [[name for name, _ in part] for part in (train, test)]
    return DecodedImages(classes, _decoded_splits(files, names, numbers), *map(_ranks, names))


def read_kaggle(files: FileTree, layout: Layout, say: Callable[[str], None]) -> DecodedImages:
    """Read Kaggle's train/<id>.png with trainLabels.csv; its test images have no labels and are ignored.

    The last fifth of each class by id is held out as test.

    Raises:
        DataError: an image has no label, a label has no image, or an image cannot be decoded.
    """
    labels = _csv_labels(files, layout.train[0])
    names = {_stem(name): name for name in layout.train[1:]}
    if missing := sorted(labels.keys() - names.keys()):
        raise DataError(
            f"{shown(layout.train[0])} has the id {shown(missing[0])}, but there is no such image in train/"
        )
    if extra := sorted(names.keys() - labels.keys()):
        raise DataError(f"{shown(names[extra[0]])} has no label in {shown(layout.train[0])}")
    classes = tuple(sorted(set(labels.values())))
    ids = sorted(labels, key=lambda text: (int(text) if text.isdecimal() else 0, text))
    train: list[str] = []
    test: list[str] = []
    for label in classes:
        members = [each for each in ids if labels[each] == label]
        count = max(1, len(members) // HELD_OUT)
        train, test = train + members[:-count], test + members[-count:]
    place = {each: position for position, each in enumerate(ids)}
    parts = [sorted(part, key=place.__getitem__) for part in (train, test)]
    numbers = [[classes.index(labels[each]) for each in part] for part in parts]
    validation.check_classes(classes, *numbers)
    say(f"{len(labels):,} images")
    return DecodedImages(classes, _decoded_splits(files, [[names[each] for each in part] for part in parts], numbers))


def _csv_labels(files: FileTree, name: str) -> dict[str, str]:
    """Return {id: class} of a CSV with the columns id and label."""
    data = files.read(name, LARGEST_CSV)
    try:
        head, *rows = (row for row in csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True) if row)
        id_at, label_at = head.index("id"), head.index("label")
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"{shown(name)} is not a CSV with the columns id and label") from error
    for number, row in enumerate(rows, 1):
        if len(row) != len(head) or not row[label_at]:
            raise DataError(
                f"{shown(name)}: row {number:,} is {shown(','.join(row))}; {len(head)} filled fields wanted"
            )
    labels = {row[id_at]: row[label_at] for row in rows}
    if len(data) > LARGEST_CSV or not labels or len(labels) != len(rows):
        raise DataError(f"{shown(name)} has {len(rows):,} rows with {len(labels):,} different ids")
    return labels


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _class_of(name: str, folder: str) -> str:
    """Return the class of the file `name`; an error if it is not in a class's folder or has another extension."""
    _, *folders, file = name.removeprefix(folder).split("/")
    if len(folders) != 1:
        raise DataError(f"{shown(name)} is not in the folder of a class; {EXPECTED}")
    if not file.lower().endswith(decoding.EXTENSIONS):
        raise DataError(f"{shown(name)} is not an image by its name; expected {', '.join(decoding.EXTENSIONS)}")
    if not folders[0].isprintable():
        raise DataError(f"the class name {shown(folders[0])} is not printable text")
    return folders[0]


def _common_classes(train: set[str], test: set[str]) -> tuple[str, ...]:
    """Return the class names of both splits, sorted."""
    for split, here, there in (("train", train, test), ("test", test, train)):
        if not here:
            raise DataError(f"no images in {split}/; {EXPECTED}")
        if missing := sorted(there - here):
            raise DataError(f"class {shown(missing[0])} has no images in {split}/; {EXPECTED}")
    return tuple(sorted(train))


def _decoded_splits(files: FileTree, names: Sequence[Sequence[str]], labels: Sequence[Sequence[int]]) -> ImageArrays:
    """Decode the files of train and test, given with their labels; the first image gives the size of all."""
    with warnings.catch_warnings(action="ignore"):
        first = decoding.decode_image(names[0][0], files.read(names[0][0], decoding.LARGEST))
    train, test = (_decoded(files, part, len(first)) for part in names)
    return ImageArrays(train, np.array(labels[0], np.int64), test, np.array(labels[1], np.int64))


def _decoded(files: FileTree, names: Sequence[str], side: int) -> Images:
    """Return (N, side, side, 3) pixels of the files `names`."""
    validation.check_room(len(names), side)
    images = np.empty((len(names), side, side, 3), np.uint8)
    with warnings.catch_warnings(action="ignore"):  # Pillow's, on large images and palettes, which `pixels` handles
        for index, name in enumerate(names):  # one thread: two would both wait for the GIL (measured)
            images[index] = decoding.decode_image(name, files.read(name, decoding.LARGEST), side)
    return images


def _ranks(names: Sequence[str]) -> Labels | None:
    """Return the numbers that the files' names begin with, `10008_airplane.png`; None unless all have distinct ones."""
    numbers = [re.match(r"\d{1,9}", name.rpartition("/")[2]) for name in names]
    ranks = [int(number.group()) for number in numbers if number]
    return np.array(ranks, np.int64) if len(set(ranks)) == len(names) else None

"""Read a labelled test set that has no training images beside it, such as CIFAR-10.1 or a file of CIFAR-10-C."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_lab.data import file_tree
from cifar_lab.data.array_files import labels_of_array, read_array
from cifar_lab.data.dataset import Images, Labels
from cifar_lab.data.file_tree import FileTree
from cifar_lab.data.layouts import SPLIT_NAMES
from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError
from cifar_lab.inference.input_images import Fit, decode_pictures, images_of_array, picture_names

DEEPEST = 3
"""Most folders around the folders of the classes."""
PAIRS = (("data", "labels"), ("images", "labels"), ("x", "y"), ("x_test", "y_test"), ("test_images", "test_labels"))
"""Names of images and labels that belong together, or parts of them."""
LABELS = "labels.npy"
"""Labels of every file of CIFAR-10-C, in the same folder."""


@dataclass(frozen=True, kw_only=True)
class LabelledTestSet:
    """Labelled images."""

    images: Images
    """(N, side, side, 3) uint8."""
    labels: Labels
    """(N,) int64: indices into the classes that were given."""
    notes: tuple[str, ...] = ()


def read_test_set(path: Path, classes: Sequence[str], side: int) -> LabelledTestSet | None:
    """Return the test set at `path`, or None where there is none of these forms.

    - a folder, zip or tar of <class>/*, or of test/<class>/* without train/, with classes among `classes`
    - an npz of images and labels (`data` and `labels`, `x` and `y`, …) without training images
    - an npy of images with its labels beside it: `fog.npy` and `labels.npy`, `v6_data.npy` and `v6_labels.npy`

    Labels in arrays are numbers in the order of `classes`.

    Raises:
        DataError: images or labels cannot be read, are not as many, or are of another size or no class.
    """
    if path.suffix == ".npy":
        labels = _labels_beside(path)
        with file_tree.opened(path.parent) as tree:
            return _of_arrays(tree, path.name, labels, classes, side)
    if not (path.is_dir() or _is_archive(path)):
        return None
    with file_tree.opened(path) as tree:
        listed = tree.listing("").files
        for images, labels in () if any("train" in name.lower() for name in listed) else PAIRS:
            if {f"{images}.npy", f"{labels}.npy"} <= set(listed):
                return _of_arrays(tree, f"{images}.npy", f"{labels}.npy", classes, side)
        folder = _folder_of_classes(tree, classes)
        return None if folder is None else _of_folders(tree, folder, classes, side)


def _is_archive(path: Path) -> bool:
    start = file_tree.read_start(path) if path.is_file() else b""
    return start.startswith(b"PK") or file_tree.is_tar(start)


def _folder_of_classes(tree: FileTree, classes: Sequence[str]) -> str | None:
    """Return the folder that holds the folders of classes and nothing else, with a slash at its end."""
    for folder in _nested(tree):
        names = tree.listing(folder.rstrip("/")).folders
        if names and set(names) <= set(classes):
            return folder
    return None


def _nested(tree: FileTree) -> Iterator[str]:
    """Yield the root and the folders in it, each the only one there or the test set without a training set."""
    folder = ""
    for _ in range(DEEPEST + 1):
        yield folder
        names = tree.listing(folder.rstrip("/")).folders
        splits = {SPLIT_NAMES.get(name.lower()): name for name in names}
        if "train" in splits:
            return
        inner = names[0] if len(names) == 1 else splits.get("test")
        if inner is None:
            return
        folder += f"{inner}/"


def _of_folders(tree: FileTree, folder: str, classes: Sequence[str], side: int) -> LabelledTestSet:
    names, notes = picture_names(tree, folder.rstrip("/"))
    of = [name.removeprefix(folder).split("/") for name in names]
    if stray := [name for name, parts in zip(names, of, strict=True) if len(parts) != 2]:
        raise DataError(f"{shown(stray[0])} is not in the folder of a class")
    labels = np.array([classes.index(parts[0]) for parts in of], dtype=np.int64)
    return LabelledTestSet(images=decode_pictures(tree, names, Fit(side)), labels=labels, notes=notes)


def _labels_beside(path: Path) -> str:
    """Return the name of the file with the labels of an array of images."""
    swapped = [path.name.replace(images, labels) for images, labels in PAIRS[:2] if images in path.name]
    for name in (*swapped, LABELS):
        if name != path.name and (path.parent / name).is_file():
            return name
    raise DataError(f"no labels beside it; expected {' or '.join((*swapped, LABELS))} in its folder")


def _of_arrays(tree: FileTree, of_images: str, of_labels: str, classes: Sequence[str], side: int) -> LabelledTestSet:
    images = images_of_array(read_array(tree, of_images), of_images, Fit(side)).images
    labels = labels_of_array(of_labels, read_array(tree, of_labels))
    if len(images) != len(labels):
        raise DataError(
            f"{len(images):,} images in {shown(of_images)} and {len(labels):,} labels in {shown(of_labels)}"
        )
    if (largest := int(labels.max())) >= len(classes):
        raise DataError(f"{shown(of_labels)} has the label {largest}; the runs know {len(classes)} classes")
    return LabelledTestSet(images=images, labels=labels)

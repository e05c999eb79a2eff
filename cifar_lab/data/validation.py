"""Validation common to all sources: named classes, each with images in both splits, and square images of one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError

FEWEST_CLASSES, MOST_CLASSES = 2, 1000
SMALLEST_SIDE, LARGEST_SIDE = 8, 256
"""Limits of an image's side in pixels."""
LARGEST_DATASET = 8 << 30
"""Maximum bytes of the decoded pixels of a split, which a training keeps in memory."""


def check_classes(classes: tuple[str, ...], train: Iterable[int], test: Iterable[int]) -> None:
    """Check class names and the labels of both splits, given as class indices.

    Raises:
        DataError: too few or too many classes, an unprintable name, or a class without images in a split.
    """
    if not FEWEST_CLASSES <= len(classes) <= MOST_CLASSES:
        listed = ", ".join(shown(label).strip("'") for label in classes[:10]) + ", …" * (len(classes) > 10)
        raise DataError(
            f"found {len(classes):,} class{'es' * (len(classes) != 1)} ({listed}); "
            f"{FEWEST_CLASSES} to {MOST_CLASSES:,} are supported"
        )
    for label in classes:
        if not label or not label.isprintable():
            raise DataError(f"the class name {shown(label)} is not printable text")
    if len(set(classes)) != len(classes):
        raise DataError("two classes have the same name")
    for split, labels in (("train", train), ("test", test)):
        counts = Counter(labels)
        if odd := sorted(set(counts) - set(range(len(classes)))):
            raise DataError(f"{split} has the label {odd[0]}; {len(classes)} classes have 0 … {len(classes) - 1}")
        for number, label in enumerate(classes):
            if not counts[number]:
                raise DataError(f"class {shown(label)} has no images in {split}")
            if split == "train" and counts[number] < 2:
                raise DataError(f"class {shown(label)} has 1 training image; at least 2 are needed, one to hold out")


def check_side(name: str, width: int, height: int) -> None:
    """Check the size of the images that `name` holds or is.

    Raises:
        DataError: not square, or a side that is not supported.
    """
    if width != height:
        raise DataError(f"{shown(name)} is {width}×{height}; expected square images")
    if not SMALLEST_SIDE <= width <= LARGEST_SIDE:
        raise DataError(
            f"{shown(name)} is {width}×{height}; sides of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels are supported"
        )


def check_room(images: int, side: int) -> None:
    """Check that `images` images of this side are not too many to be kept in memory.

    Raises:
        DataError: they take more than `LARGEST_DATASET`.
    """
    if images * side * side * 3 > LARGEST_DATASET:
        raise DataError(
            f"{images:,} images of {side}×{side} take {images * side * side * 3 / 2**30:.0f} GiB; "
            f"at most {LARGEST_DATASET >> 30} are supported: make them smaller"
        )


def check_same_side(train: int, test: int) -> None:
    """Check that both splits have images of one side.

    Raises:
        DataError: they differ.
    """
    if train != test:
        raise DataError(f"images of train are {train}×{train}, those of test {test}×{test}; expected one size")

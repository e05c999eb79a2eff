"""Validation common to all sources: ten classes, each with images in both splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError

CLASSES = 10


def check_classes(classes: tuple[str, ...], train: Iterable[int], test: Iterable[int]) -> None:
    """Check class names and the labels of both splits, given as class indices.

    Raises:
        DataError: not ten classes, an unprintable name, or a class without images in a split.
    """
    if len(classes) != CLASSES:
        listed = ", ".join(shown(label).strip("'") for label in classes[:CLASSES]) + ", …" * (len(classes) > CLASSES)
        raise DataError(f"found {len(classes)} classes ({listed}); CIFAR-10 has {CLASSES}")
    for label in classes:
        if not label or not label.isprintable():
            raise DataError(f"the class name {shown(label)} is not printable text")
    if len(set(classes)) != CLASSES:
        raise DataError("two classes have the same name")
    for split, labels in (("train", train), ("test", test)):
        counts = Counter(labels)
        if odd := sorted(set(counts) - set(range(CLASSES))):
            raise DataError(f"{split} has the label {odd[0]}; CIFAR-10 has 0 … {CLASSES - 1}")
        for number, label in enumerate(classes):
            if not counts[number]:
                raise DataError(f"class {shown(label)} has no images in {split}")
            if split == "train" and counts[number] < 2:
                raise DataError(f"class {shown(label)} has 1 training image; at least 2 are needed, one to hold out")

"""Shape of a data set's images and labels, on which a network and its cost depend."""

from __future__ import annotations

from typing import NamedTuple


class ImageShape(NamedTuple):
    """Number of classes, and side of the square RGB images in pixels."""

    classes: int = 10
    side: int = 32


CIFAR10_SHAPE = ImageShape()
"""Ten classes of 32×32 images: CIFAR-10, and the shape of a recipe's network if no data set is given."""

"""Images of one source: decoded uint8 arrays, their labels, and a hash of the content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar_lab.config.images import ImageShape

Kind = Literal["cifar10", "cifar100", "path", "synthetic", "registered"]
"""Origin of images: a published data set, a path, the generator of synthetic images, or a registered data set."""
Images = NDArray[np.uint8]
"""(N, side, side, 3): rows, columns, RGB."""
Labels = NDArray[np.int64]
"""(N,): indices into `Dataset.classes`."""


class ImageArrays(NamedTuple):
    """Decoded images and labels of both splits."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels


@dataclass(frozen=True, kw_only=True, repr=False)
class Dataset:
    """Training and test images of one source. The arrays may be memory-mapped and are never written to."""

    name: str
    """Name in tables: `CIFAR-10`, `CIFAR-100`, `synthetic, not CIFAR-10`, or the name of the folder or archive."""
    kind: Kind
    classes: tuple[str, ...]
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    hash: str
    """`content_hash` of the five fields above: 64 hex digits."""

    @classmethod
    def of(cls, name: str, kind: Kind, classes: tuple[str, ...], arrays: ImageArrays) -> Dataset:
        """Return the data set of these arrays, with their hash."""
        return cls(name=name, kind=kind, classes=classes, **arrays._asdict(), hash=content_hash(classes, *arrays))

    def __repr__(self) -> str:
        counts = f"{len(self.train_images):,} training and {len(self.test_images):,} test images"
        side = self.shape.side
        return f"<Dataset {self.name!r}: {counts} of {side}×{side}, {len(self.classes)} classes, hash {self.hash[:12]}>"

    @property
    def shape(self) -> ImageShape:
        """Return the number of classes and the side of the images."""
        return ImageShape(classes=len(self.classes), side=self.train_images.shape[1])

    @property
    def arrays(self) -> ImageArrays:
        """Return the four arrays."""
        return ImageArrays(self.train_images, self.train_labels, self.test_images, self.test_labels)

    def split(self, val_fraction: float, split_seed: int) -> tuple[Labels, Labels]:
        """Return sorted indices of (train, val): `val_fraction` of each class's training images, at least one, are val.

        The draw depends only on `split_seed`, so that every variant and seed holds out the same images.
        """
        rng = np.random.default_rng(split_seed)
        val = [
            rng.choice(members, size=max(1, round(len(members) * val_fraction)), replace=False)
            for members in (np.flatnonzero(self.train_labels == c) for c in range(len(self.classes)))
        ]
        held_out = np.sort(np.concatenate(val))
        return np.setdiff1d(np.arange(len(self.train_labels)), held_out), held_out


def content_hash(
    classes: tuple[str, ...], train_images: Images, train_labels: Labels, test_images: Images, test_labels: Labels
) -> str:
    """Return the SHA-256 of class names, shapes, labels and pixels: 64 hex digits, equal if all of these are equal."""
    digest = hashlib.sha256("\n".join(classes).encode())
    for array in (train_images, train_labels, test_images, test_labels):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

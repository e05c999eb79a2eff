"""Image sets of a given size for the lab's commands, which take a folder or a zip."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cifar_lab.data import load
from cifar_lab.data.dataset import Dataset, Images, Labels
from side_by_side.contender import run

DECODE = "import sys; from cifar_lab.data import load; load(sys.argv[1])"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Value of `--data`, with the environment in which it was decoded before."""

    source: str
    train: int
    """Number of training images, including val."""
    test: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def all_of(cls, source: str) -> Pictures:
        dataset = load(source)
        return cls(source=source, train=len(dataset.train_labels), test=len(dataset.test_labels))

    @classmethod
    def some_of(cls, source: str, train: int, folder: Path) -> Pictures:
        """Select `train` training images and a fifth as many test images, in multiples of ten, repeated if necessary.

        They are written as a zip in `folder`, with a separate cache there that already holds them decoded.
        """
        path, environment = folder / f"{train}.zip", {"CIFAR_LAB_CACHE": str(folder / "cache")}
        folder.mkdir(parents=True, exist_ok=True)
        counts = write_zip(load(source), path, {"train": train, "test": train // 5})
        run([sys.executable, "-c", DECODE, str(path)], folder, environment)
        return cls(source=str(path), **counts, environment=environment)

    @property
    def bytes(self) -> int:
        """Return the size of the pixels in bytes."""
        return 32 * 32 * 3 * (self.train + self.test)


def write_zip(dataset: Dataset, path: Path, wanted: Mapping[str, int]) -> dict[str, int]:
    """Write balanced `train/<class>/*` and `test/<class>/*` as PNG; return the number of images of each split."""
    parts = {
        "train": (dataset.train_images, dataset.train_labels),
        "test": (dataset.test_images, dataset.test_labels),
    }
    counts = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part, (images, labels) in parts.items():
            chosen = _balanced(labels, wanted[part], len(dataset.classes))
            counts[part] = len(chosen)
            for at, i in enumerate(chosen):
                archive.writestr(f"{part}/{dataset.classes[labels[i]]}/{at}.png", _png(images, int(i)))
    return counts


def _balanced(labels: Labels, count: int, classes: int) -> np.ndarray:
    """Return positions of `count` images, as balanced as the classes allow, with at least two of each."""
    each = max(2, round(count / classes))
    return np.concatenate([np.resize(np.flatnonzero(labels == label), each) for label in range(classes)])


def _png(images: Images, i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(images[i]).save(buffer, "png", compress_level=1)
    return buffer.getvalue()

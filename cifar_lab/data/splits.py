"""Parts of a data set that one training uses, on its device."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_lab.config import recipe
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.data.dataset import Dataset, Labels

SHARE = 1
"""Stream of the draw of `data.train_fraction`, apart from the one of the held-out images."""


@dataclass(frozen=True)
class ImageSubset:
    """Subset of a shared array of images, and their labels; `take` copies only what it returns."""

    images: Tensor
    """(N, side, side, 3) uint8, the whole array."""
    labels: Tensor
    """(N,) int64, the whole array."""
    index: Tensor
    """(M,) int64: indices of this part's images."""

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, side, side, 3) and labels (B,) at `positions`, (B,), within this part."""
        chosen = self.index[positions]
        return self.images[chosen], self.labels[chosen]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Parts that a training uses under its protocol."""

    train: ImageSubset
    clean_train: ImageSubset
    """Subset of the training images, as large as `watched` under holdout, for the accuracy without augmentation."""
    watched: ImageSubset
    """Evaluated after each epoch: val under `holdout`, test under `writeup`."""
    watched_name: Literal["val", "test"]
    test: ImageSubset
    classes: int = CIFAR10_SHAPE.classes

    @property
    def shape(self) -> ImageShape:
        """Return the number of classes and the side of the images."""
        return ImageShape(classes=self.classes, side=self.train.images.shape[1])


def split(dataset: Dataset, data: recipe.DataConfig, protocol: str, device: torch.device) -> Split:
    """Return the parts of `dataset` under `protocol`, with pixels moved to `device` once (not copied on the CPU)."""
    _, held_out = dataset.split(data.val_fraction, data.split_seed)
    seen = training_index(dataset, data, "holdout")
    trained = training_index(dataset, data, protocol) if protocol == "writeup" else seen
    images, labels = _tensor(dataset.train_images, device), _tensor(dataset.train_labels, device)
    test_index = np.arange(len(dataset.test_labels))
    test = ImageSubset(
        _tensor(dataset.test_images, device), _tensor(dataset.test_labels, device), _tensor(test_index, device)
    )
    rng = np.random.default_rng(data.split_seed)
    clean = np.sort(rng.choice(seen, size=min(len(held_out), len(seen)), replace=False))
    return Split(
        train=ImageSubset(images, labels, _tensor(trained, device)),
        clean_train=ImageSubset(images, labels, _tensor(clean, device)),
        watched=test if protocol == "writeup" else ImageSubset(images, labels, _tensor(held_out, device)),
        watched_name="test" if protocol == "writeup" else "val",
        test=test,
        classes=len(dataset.classes),
    )


def training_index(dataset: Dataset, data: recipe.DataConfig, protocol: str) -> Labels:
    """Return the sorted indices of the images that a training under `protocol` uses: `train_fraction` of each class.

    They are drawn from all training images under `writeup`, else from those that are not held out as val.
    """
    rest = np.arange(len(dataset.train_labels))
    if protocol != "writeup":
        rest, _ = dataset.split(data.val_fraction, data.split_seed)
    if data.train_fraction == 1:
        return rest
    rng = np.random.default_rng([data.split_seed, SHARE])
    labels = dataset.train_labels[rest]
    members = (rng.permutation(rest[labels == c]) for c in range(len(dataset.classes)))
    return np.sort(np.concatenate([each[: max(1, round(len(each) * data.train_fraction))] for each in members]))


def _tensor(array: NDArray[np.uint8] | NDArray[np.int64], device: torch.device) -> Tensor:
    with warnings.catch_warnings():  # memory-mapped arrays are read-only, but nothing here writes to them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array).to(device)

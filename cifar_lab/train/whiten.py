"""Fit a network's whitening stem, if it has one, to its training images."""

from __future__ import annotations

import torch
from torch import nn

from cifar_lab.config import recipe
from cifar_lab.data.augmentation import normalise_only
from cifar_lab.data.splits import ImageSubset
from cifar_lab.models.whitening import Whitening

IMAGES = 5000
"""Minimum number of images, if available: Jordan's number. They have millions of patches."""


def whiten(net: nn.Module, train: ImageSubset, data: recipe.DataConfig) -> None:
    """Compute the whitening from `IMAGES` of `train`, without augmentation; the same for every seed."""
    stem = getattr(net, "whitening", None)
    if not isinstance(stem, Whitening):
        return
    stride = max(1, len(train) // IMAGES)  # spread over all, as a folder's images are sorted by class
    images, _ = train.take(torch.arange(0, len(train), stride, device=train.images.device))
    stem.fit(normalise_only(images, data))

"""Fit a network's whitening stem, if it has one, to its training images."""

from __future__ import annotations

import torch

from cifar_lab.config import recipe
from cifar_lab.data.augmentation import normalise_only
from cifar_lab.data.splits import ImageSubset
from cifar_lab.models.resnet import ResNet
from cifar_lab.models.whitening import Whitening

IMAGES = 5000
"""Minimum number of images, if available: Jordan's number. They have millions of patches."""


def whiten(net: ResNet, train: ImageSubset, data: recipe.DataConfig) -> None:
    """Compute the whitening from `IMAGES` of `train`, without augmentation; the same for every seed."""
    if not isinstance(net.whitening, Whitening):
        return
    stride = max(1, len(train) // IMAGES)  # spread over all, as a folder's images are sorted by class
    images, _ = train.take(torch.arange(0, len(train), stride, device=train.images.device))
    net.whitening.fit(normalise_only(images, data))

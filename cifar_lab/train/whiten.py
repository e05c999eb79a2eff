"""Fit the stem of a network, where it has one that whitens, to the images that it will be trained on."""

from __future__ import annotations

import torch

from cifar_lab import recipe
from cifar_lab.data.augment import normalise_only
from cifar_lab.data.split import Part
from cifar_lab.models.resnet import ResNet
from cifar_lab.models.whitening import Whitening

IMAGES = 5000
"""At least as many, where there are: Jordan's number. Their patches are millions."""


def whiten(net: ResNet, train: Part, data: recipe.Data) -> None:
    """Whiten by `IMAGES` of `train`, as they are without augmentation; the same for every seed."""
    if not isinstance(net.whitening, Whitening):
        return
    stride = max(1, len(train) // IMAGES)  # from all over: a folder's images are in the order of their classes
    images, _ = train.take(torch.arange(0, len(train), stride, device=train.images.device))
    net.whitening.fit(normalise_only(images, data))

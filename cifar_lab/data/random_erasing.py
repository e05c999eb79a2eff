"""Random erasing (Zhong et al., 2020): the rectangle of each image that is blanked."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cifar_lab.config.augmentation_policy import RandomErasingConfig

TRIES = 10
"""Rectangles that are drawn for an image until one is smaller than the image on both sides, as in torchvision."""


def draw_erased_boxes(
    erasing: RandomErasingConfig, n: int, side: int, random: np.random.Generator
) -> NDArray[np.int32]:
    """Return boxes, (n, 4) int32: top, left, bottom, right, ends excluded; empty where nothing is erased.

    Area and logarithm of height to width are uniform, and so is the place within the image.
    """
    if not erasing.probability:
        return np.zeros((n, 4), np.int32)
    erased = random.random(n) < erasing.probability
    area = side**2 * random.uniform(*erasing.area, (n, TRIES))
    least, largest = (math.log(limit) for limit in erasing.ratio)
    ratio = np.exp(random.uniform(least, largest, (n, TRIES)))
    sizes = np.rint(np.sqrt(np.stack([area * ratio, area / ratio], axis=2))).astype(np.int32)  # (n, TRIES, 2)
    fits = sizes.max(axis=2) < side
    size = sizes[np.arange(n), fits.argmax(axis=1)] * (erased & fits.max(axis=1))[:, None]
    corner = (random.random((n, 2)) * (side - size + 1)).astype(np.int32)
    return np.hstack([corner, corner + size])

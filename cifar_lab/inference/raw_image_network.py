"""Network from raw images to logits, for programs that know nothing of this package's preprocessing."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lab.config.recipe import Recipe
from cifar_lab.data.augmentation import pixel_affine
from cifar_lab.data.dataset import Images
from cifar_lab.train.evaluate import TTA, views

Pixels = Literal["uint8", "float"]
PIXELS: dict[Pixels, str] = {"uint8": "uint8 from 0 to 255", "float": "float32 from 0 to 1"}
"""Types of the input, with the range of its values."""


class RawImageNetwork(nn.Module):
    """Network from raw images, (N, 3, side, side), to logits, (N, classes): normalisation and views are inside."""

    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, recipe: Recipe, tta: TTA, pixels: Pixels = "uint8") -> None:
        super().__init__()
        scale, shift = pixel_affine(recipe.data.normalise)
        self.register_buffer("scale", (scale if pixels == "uint8" else 255 * scale)[:, None, None])
        self.register_buffer("shift", shift[:, None, None])
        self.net, self.tta = net, tta

    def forward(self, images: Tensor) -> Tensor:
        seen = views(images.float() * self.scale + self.shift, self.tta)
        if len(seen) == 1:
            return self.net(seen[0][1])  # type: ignore[no-any-return]
        return torch.stack([weight * self.net(view) for weight, view in seen]).sum(dim=0)


def as_input(images: Images, pixels: Pixels) -> np.ndarray:
    """Return images, (N, side, side, 3) uint8, as the graph takes them: (N, 3, side, side) of its type."""
    planes = np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2))
    return planes if pixels == "uint8" else planes.astype(np.float32) / np.float32(255)

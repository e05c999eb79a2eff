"""Random numbers that depend on a seed and the position of an image alone, not on batches or devices.

Each number is a hash of (seed, stream, image, element) by integer arithmetic, a counter-based generator (Salmon et al.,
2011, "Parallel random numbers: as easy as 1, 2, 3"). An image therefore gets the same draws in every batch.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
BITS = 24
"""Bits of a uniform number: as many as float32 represents exactly."""


@dataclass(frozen=True, kw_only=True)
class CounterDraws:
    """Draws for the images of one batch."""

    seed: int
    purpose: str
    """Name that separates the streams of different uses of one seed."""
    index: Tensor
    """(B,) int64: position of each image in its source, on the device of the images."""

    def uniform(self, stream: int, *shape: int) -> Tensor:
        """Return uniform numbers above 0 and below 1, (B, *shape) float32; `stream` separates draws of one purpose."""
        device = self.index.device
        elements = torch.arange(math.prod(shape), dtype=torch.int64, device=device)
        start = zlib.crc32(f"{self.seed}/{self.purpose}/{stream}".encode())
        images = _mixed((_mixed(self.index & MASK) + start) & MASK)
        bits = _mixed((images[:, None] + _mixed(elements ^ start)) & MASK) >> (32 - BITS)
        numbers: Tensor = (bits.to(torch.float32) + 0.5) / 2**BITS
        return numbers.reshape(-1, *shape)

    def normal(self, stream: int, *shape: int) -> Tensor:
        """Return standard normal numbers, (B, *shape) float32 (Box and Muller, 1958)."""
        radius: Tensor = torch.sqrt(-2 * torch.log(self.uniform(2 * stream, *shape)))
        angle = 2 * math.pi * self.uniform(2 * stream + 1, *shape)
        normal: Tensor = radius * torch.cos(angle)
        return normal


def _mixed(values: Tensor) -> Tensor:
    """Return a bijective hash of 32-bit integers in an int64 tensor (Wellons, "lowbias32")."""
    values = values ^ (values >> 16)
    values = (values * 0x7FEB352D) & MASK
    values = values ^ (values >> 15)
    values = (values * 0x846CA68B) & MASK
    mixed: Tensor = values ^ (values >> 16)
    return mixed

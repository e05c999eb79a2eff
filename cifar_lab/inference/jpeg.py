"""Loss of JPEG compression: chroma at half resolution, and quantised cosine transforms of 8 × 8 blocks.

Tables and their scaling by quality are those of ITU-T T.81, annex K, and of the Independent JPEG Group's library.
Entropy coding loses nothing, and is left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 8
LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61), *(12, 12, 14, 19, 26, 58, 60, 55), *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62), *(18, 22, 37, 56, 68, 109, 103, 77), *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101), *(72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99), *(18, 21, 26, 66, 99, 99, 99, 99), *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 32),
)  # fmt: skip
COSINES = tuple(
    tuple(
        (math.sqrt(1 / BLOCK) if u == 0 else math.sqrt(2 / BLOCK)) * math.cos((2 * x + 1) * u * math.pi / (2 * BLOCK))
        for x in range(BLOCK)
    )
    for u in range(BLOCK)
)
"""Orthonormal cosine transform: row u holds the values of frequency u at the eight pixels."""


def compressed(images: Tensor, quality: int) -> Tensor:
    """Return images (B, 3, H, W) in [0, 1], sides multiples of 16, as JPEG of `quality` 1 to 100 leaves them."""
    red, green, blue = (255 * images).unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = [(blue - luma) * 0.564334 + 128, (red - luma) * 0.713267 + 128]
    luma = _quantised(luma, LUMA, quality)
    cb, cr = (_doubled(_quantised(_halved(plane), CHROMA, quality)) - 128 for plane in chroma)
    planes = [luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb]
    return torch.stack(planes, dim=1) / 255


def _quantised(plane: Tensor, table: tuple[int, ...], quality: int) -> Tensor:
    """Return a plane (B, H, W) after quantising the cosine transform of each of its blocks."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(255, max(1, (step * scale + 50) // 100)) for step in table]
    divisor = torch.tensor(steps, dtype=torch.float32, device=plane.device).reshape(BLOCK, BLOCK)
    count, height, width = plane.shape
    blocks = (plane - 128).reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(2, 3).contiguous()
    spectrum = _transformed(_transformed(blocks, 3, inverse=False), 4, inverse=False)
    spectrum = torch.round(spectrum / divisor) * divisor
    blocks = _transformed(_transformed(spectrum, 3, inverse=True), 4, inverse=True)
    return (blocks.transpose(2, 3).reshape(count, height, width) + 128).clamp(0, 255)


def _transformed(blocks: Tensor, dimension: int, *, inverse: bool) -> Tensor:
    """Return the cosine transform along one dimension of eight, by sums whose rounding no batch changes."""
    lines = blocks.unbind(dimension)
    sums = []
    for out in range(BLOCK):
        weights = [COSINES[at][out] if inverse else COSINES[out][at] for at in range(BLOCK)]
        total = weights[0] * lines[0]
        for weight, line in zip(weights[1:], lines[1:], strict=True):
            total = total + weight * line
        sums.append(total)
    return torch.stack(sums, dim=dimension)


def _halved(plane: Tensor) -> Tensor:
    """Return the means of 2 × 2 pixels."""
    rows = plane[:, 0::2] + plane[:, 1::2]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) / 4


def _doubled(plane: Tensor) -> Tensor:
    """Return a plane of twice the size, each value four times."""
    return plane.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)

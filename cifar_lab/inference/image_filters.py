"""Filters on batches of images, (B, C, H, W) float32, by element-wise sums over taps.

Sums over taps round alike in every batch, which convolutions and matrix products of a library need not do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Tap = tuple[int, int, float]
"""Row offset, column offset and weight."""


def filtered(images: Tensor, taps: Sequence[Tap], padding: str = "reflect") -> Tensor:
    """Return the weighted sum of shifted images; `padding` as `torch.nn.functional.pad` names it."""
    reach = max(max(abs(row), abs(column)) for row, column, _ in taps)
    if not reach:
        return images * sum(weight for _, _, weight in taps)
    height, width = images.shape[-2:]
    padded = F.pad(images, (reach,) * 4, mode=padding)
    total = torch.zeros_like(images)
    for row, column, weight in taps:
        top, left = reach + row, reach + column
        total = total + weight * padded[..., top : top + height, left : left + width]
    return total


def gaussian_filtered(images: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of `sigma` pixels, cut off at four sigma, edges repeated; `sigma` 0 changes nothing."""
    reach = int(4 * sigma + 0.5)
    if not reach:
        return images
    weights = [math.exp(-0.5 * (at / sigma) ** 2) for at in range(-reach, reach + 1)]
    scaled = [weight / sum(weights) for weight in weights]
    offsets = range(-reach, reach + 1)
    rows = filtered(images, [(at, 0, weight) for at, weight in zip(offsets, scaled, strict=True)], "replicate")
    return filtered(rows, [(0, at, weight) for at, weight in zip(offsets, scaled, strict=True)], "replicate")


def disk_taps(radius: float, alias: float) -> list[Tap]:
    """Return a disk of `radius` pixels, smoothed by a 3 × 3 Gaussian of `alias` pixels, as taps that sum to 1."""
    reach = math.floor(radius)
    span = range(-reach, reach + 1)
    inside = [(row, column) for row in span for column in span if row * row + column * column <= radius * radius]
    edge = math.exp(-0.5 / alias**2)
    line = {-1: edge / (1 + 2 * edge), 0: 1 / (1 + 2 * edge), 1: edge / (1 + 2 * edge)}
    weights: dict[tuple[int, int], float] = {}
    for row, column in inside:
        for down, vertical in line.items():
            for right, horizontal in line.items():
                place = (row + down, column + right)
                weights[place] = weights.get(place, 0.0) + vertical * horizontal / len(inside)
    return [(row, column, weight) for (row, column), weight in sorted(weights.items())]


def displaced(images: Tensor, rows: Tensor, columns: Tensor, padding: str = "reflection") -> Tensor:
    """Return images read at displaced places by bilinear interpolation.

    Args:
        images: (B, C, H, W).
        rows, columns: displacements in pixels, broadcastable to (B, H, W).
        padding: how places outside are read: `reflection` or `border`.
    """
    height, width = images.shape[-2:]
    device = images.device
    y = torch.arange(height, dtype=torch.float32, device=device)[:, None] + rows
    x = torch.arange(width, dtype=torch.float32, device=device)[None, :] + columns
    y, x = torch.broadcast_tensors(y, x)
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), padding_mode=padding, align_corners=True)


def motion_filtered(images: Tensor, angle: Tensor, radius: int, sigma: float) -> Tensor:
    """Blur along a direction, on one side, as ImageMagick does: weights exp(−i² / 2σ²) at i = 0 … 2 · `radius` pixels.

    `angle`: (B,) in radians. Weights below one in a million are left out.
    """
    weights = [math.exp(-0.5 * (at / sigma) ** 2) for at in range(2 * radius + 1)]
    weights = [weight for weight in weights if weight > 1e-6]
    rows, columns = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    total = torch.zeros_like(images)
    for at, weight in enumerate(weights):
        total = total + weight / sum(weights) * displaced(images, at * rows, at * columns, "border")
    return total


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Return the middle of images, enlarged by `factor` ≥ 1 to their size."""
    side = images.shape[-1]
    middle = (side - 1) / 2
    offset = (torch.arange(side, dtype=torch.float32, device=images.device) - middle) * (1 / factor - 1)
    return displaced(images, offset[None, :, None], offset[None, None, :], "border")


def pixelated(images: Tensor, cells: int) -> Tensor:
    """Return images as a mosaic of `cells` × `cells` squares with the mean colour of the area that each covers."""
    side = images.shape[-1]
    small = _averaged(_averaged(images, cells).transpose(2, 3).contiguous(), cells).transpose(2, 3)
    place = (torch.arange(side, device=images.device) * 2 + 1) * cells // (2 * side)
    return small[:, :, place][:, :, :, place].contiguous()


def _averaged(images: Tensor, cells: int) -> Tensor:
    """Return the means over `cells` equal stretches of rows, (B, C, cells, W), by shares of covered pixels."""
    side = images.shape[2]
    scale = side / cells
    total = torch.zeros_like(images[:, :, :cells])
    for tap in range(math.ceil(scale) + 1):
        first = [math.floor(cell * scale) + tap for cell in range(cells)]
        shares = [
            max(0.0, min(place + 1, (cell + 1) * scale) - max(place, cell * scale)) for cell, place in enumerate(first)
        ]
        weight = torch.tensor([share / scale for share in shares], device=images.device)[:, None]
        index = torch.tensor([min(place, side - 1) for place in first], device=images.device)
        total = total + weight * images.index_select(2, index)
    return total

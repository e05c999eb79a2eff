"""Image operations of augmentation policies, on whole batches, with a separate parameter for each image.

Images are (N, 3, side, side) uint8 and stay so; parameters are (N, 6) float32, of which most operations use the first.
Results are those of `torchvision.transforms.v2.functional` on tensors, image by image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

RED, GREEN, BLUE = 0.2989, 0.587, 0.114
"""Weights of the channels in the grey image."""


def adjust_brightness(images: Tensor, parameters: Tensor) -> Tensor:
    """Multiply by the first parameter."""
    return _to_pixels(images.float().mul_(_column(parameters, 0)))


def adjust_color(images: Tensor, parameters: Tensor) -> Tensor:
    """Interpolate between the grey image (0) and the image (1), and beyond."""
    pixels = images.float()
    return _blend(pixels, _grey(pixels), parameters)


def adjust_contrast(images: Tensor, parameters: Tensor) -> Tensor:
    """Interpolate between the mean of the grey image (0) and the image (1), and beyond."""
    pixels = images.float()
    return _blend(pixels, _grey(pixels).mean(dim=(1, 2, 3), keepdim=True), parameters)


def adjust_sharpness(images: Tensor, parameters: Tensor) -> Tensor:
    """Interpolate between the smoothed image (0) and the image (1), and beyond; the outermost pixels stay."""
    pixels = images.float()
    inside = pixels[:, :, 1:-1, 1:-1]
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    smooth = ((rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inside) / 13).round()
    inside.addcmul_(smooth - inside, _column(parameters, 1))
    return _to_pixels(pixels)


def posterize(images: Tensor, parameters: Tensor) -> Tensor:
    """Keep the bits of the mask that is the first parameter."""
    return images & _column(parameters, 0).to(torch.uint8)


def solarize(images: Tensor, parameters: Tensor) -> Tensor:
    """Invert the pixels from the first parameter up."""
    return torch.where(images >= _column(parameters, 0).ceil().to(torch.uint8), 255 - images, images)


def autocontrast(images: Tensor, parameters: Tensor) -> Tensor:  # noqa: ARG001 (an operation)
    """Stretch each channel to the whole range."""
    pixels = images.float()
    low, high = pixels.amin(dim=(2, 3), keepdim=True), pixels.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return _to_pixels(pixels.sub_(torch.where(flat, 0.0, low)).div_(scale))


def equalize(images: Tensor, parameters: Tensor) -> Tensor:  # noqa: ARG001 (an operation)
    """Equalise the histogram of each channel by PIL's rule; a channel with hardly more than one level stays."""
    index = images.flatten(2).long()  # (N, 3, pixels)
    counts = torch.zeros(*index.shape[:2], 256, dtype=torch.int32, device=images.device)
    counts.scatter_add_(2, index, counts.new_ones(1).expand_as(index))
    most = images.flatten(2).amax(2, keepdim=True).long()
    step = (index.shape[2] - counts.gather(2, most)) // 255  # (N, 3, 1)
    below = counts.cumsum(2, dtype=torch.int32) - counts
    levels = (below.add_(step // 2) // step.clamp(min=1)).clamp_(0, 255).to(torch.uint8)
    equalized = levels.gather(2, index).view(images.shape)
    return torch.where(step[..., None] > 0, equalized, images)


def warp_nearest(images: Tensor, parameters: Tensor) -> Tensor:
    """Take each pixel from the nearest source pixel; see `_warp`."""
    return _warp(images, parameters, "nearest")


def warp_bilinear(images: Tensor, parameters: Tensor) -> Tensor:
    """Interpolate each pixel between four source pixels; see `_warp`."""
    return _warp(images, parameters, "bilinear")


Operation = Callable[[Tensor, Tensor], Tensor]
OPERATIONS: tuple[Operation, ...] = (
    adjust_brightness, adjust_color, adjust_contrast, adjust_sharpness, posterize, solarize, autocontrast, equalize,
    warp_nearest, warp_bilinear,
)  # fmt: skip


def _warp(images: Tensor, matrices: Tensor, mode: str) -> Tensor:
    """Map each image by its affine matrix, the six parameters; what comes from outside is black.

    The matrix maps a pixel's place to that of its source: both are relative to the centre, the former in pixels, the
    latter in half sides.
    """
    side = images.shape[-1]
    at = torch.arange(side, device=images.device) - (side - 1) / 2
    a, b, c, d, e, f = (_column(matrices, each)[:, 0] for each in range(6))  # (N, 1, 1) each
    grid = torch.stack([a * at + b * at[:, None] + c, d * at + e * at[:, None] + f], dim=-1)  # (N, side, side, 2)
    return F.grid_sample(images.float(), grid, mode, "zeros", align_corners=False).round_().to(torch.uint8)


def _grey(pixels: Tensor) -> Tensor:
    """Return the grey images, (N, 1, side, side) float32, whole numbers."""
    red, green, blue = pixels.unbind(1)
    return (red * RED).add_(green, alpha=GREEN).add_(blue, alpha=BLUE).floor_()[:, None]


def _blend(pixels: Tensor, other: Tensor, parameters: Tensor) -> Tensor:
    """Weight the pixels, float32, by the first parameter, and `other` by the second."""
    return _to_pixels(pixels.mul_(_column(parameters, 0)).addcmul_(other, _column(parameters, 1)))


def _column(parameters: Tensor, number: int) -> Tensor:
    return parameters[:, number, None, None, None]


def _to_pixels(values: Tensor) -> Tensor:
    return values.clamp_(0, 255).to(torch.uint8)

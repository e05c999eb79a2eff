"""Augmentation of whole batches on the training device, with separate random draws for each image.

Random numbers are drawn in advance: once per epoch, on the CPU, for every position in the epoch, from a separate
stream for each purpose. So every device sees the same draws, no batch waits for them, and switching one augmentation
on does not shift the draws of another.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cifar_lab.config import recipe
from cifar_lab.config.images import CIFAR10_SHAPE
from cifar_lab.config.seeding import stream
from cifar_lab.data.augmentation_policy import draw_policy, policy_views
from cifar_lab.data.augmentation_registry import apply_own, draw_own, has_stage
from cifar_lab.data.random_erasing import draw_erased_boxes

MEAN = (0.4914, 0.4822, 0.4465)
"""Channel means of CIFAR-10's training images, scaled to [0, 1]."""
STD = (0.2023, 0.1994, 0.2010)
"""Customary channel deviations, as in the writeup: mean of the deviations within images, not that of all pixels."""

Floats = NDArray[np.float32]
Ints = NDArray[np.integer]
Batch = tuple[Tensor, Tensor]
"""Images (N, 3, side, side) float, and targets: labels (N,) int64, or probabilities (N, classes) float."""


@dataclass(frozen=True, kw_only=True)
class AugmentationDraws:
    """Random draws for n images, one row per position: those of an epoch, or, sliced, of a batch.

    Boxes are (top, left, bottom, right), ends excluded. Augmentations that are off have neutral values.
    """

    order: Tensor
    """(n,) int64: image index at each position, a permutation of 0 … n - 1."""
    crop: Tensor
    """(n, 2) int32: top and left of the crop in the padded image, 0 … 2 * padding."""
    flip: Tensor
    """(n,) bool."""
    cutout: Tensor
    """(n, 4) int32: box that is set to zero."""
    mixup: Tensor
    """(n,) float32: λ, the weight of the image itself; 1 if CutMix is used."""
    cutmix: Tensor
    """(n, 4) int32: box that is pasted from the partner; empty if MixUp is used."""
    policy: Tensor
    """(n, operations) int32: rows of the policy's table; no column without a policy."""
    policy_weights: Tensor
    """(n, 1 + chains) float32: AugMix's weights; no column for other policies."""
    erased: Tensor
    """(n, 4) int32: box that random erasing sets to zero."""
    own: Tensor
    """(n, numbers) float32 in [0, 1): random numbers of users' augmentations."""

    def __getitem__(self, positions: slice) -> AugmentationDraws:
        return AugmentationDraws(**{field.name: getattr(self, field.name)[positions] for field in fields(self)})

    def at(self, positions: Tensor) -> AugmentationDraws:
        """Return the rows at `positions`, (B,) int64, on the same device."""
        return AugmentationDraws(
            **{field.name: getattr(self, field.name).index_select(0, positions) for field in fields(self)}
        )


def draw_epoch(
    data: recipe.DataConfig,
    n: int,
    *,
    seed: int,
    epoch: int,
    side: int = CIFAR10_SHAPE.side,
    device: torch.device | str = "cpu",
) -> AugmentationDraws:
    """Draw all random numbers for the n images, `side` × `side`, of one epoch, on the CPU; move them to `device` once.

    NumPy is used because torch has no Beta distribution with a generator.
    """

    def random(purpose: str) -> np.random.Generator:
        return np.random.default_rng(stream(seed, purpose, epoch))

    order = random("order").permutation(n)
    before, after = data.cutout // 2, data.cutout - data.cutout // 2
    lam, pasted = _draw_mix(data, n, side, random("mix"))
    policy = draw_policy(data.policy, n, random("policy"))
    arrays = {
        "order": order,
        "crop": random("crop").integers(0, 2 * data.crop, (n, 2), dtype=np.int32, endpoint=True),
        "flip": _draw_flip(data, order, seed=seed, epoch=epoch),
        "cutout": _boxes(random("cutout").integers(0, side, (n, 2)), before, after, side),
        "mixup": lam,
        "cutmix": pasted,
        "policy": policy.rows[order],
        "policy_weights": policy.weights[order],
        "erased": draw_erased_boxes(data.random_erasing, n, side, random("erasing"))[order],
        "own": draw_own(data.augmentations, n, seed=seed, epoch=epoch)[order],
    }
    return AugmentationDraws(**{name: torch.from_numpy(array).to(device) for name, array in arrays.items()})


def augment(
    images: Tensor, labels: Tensor, draws: AugmentationDraws, data: recipe.DataConfig, classes: int = 10
) -> Batch:
    """Crop, flip, policy, normalise, cutout, erasing, then MixUp or CutMix with the previous image in the batch.

    Users' augmentations come before or after the normalisation. `data` specifies which of all these there are.

    Args:
        images: (N, side, side, 3) uint8, in the order of `draws`, on the same device.
        labels: (N,) int64.
        draws: rows for these N images.

    Returns:
        Images (N, 3, side, side) float32, channels_last; `labels`, or (N, classes) probabilities if images mix. With
        AugMix's consistency 3 · N images: N as they are without the policy, then two views of them.
    """
    if data.crop or data.flip:
        images = crop_and_flip(images, draws.crop, draws.flip, padding=data.crop)
    images = normalise_only(_change_pixels(images, draws, data), data)
    images = apply_own(images, _for_views(draws.own, data), data.augmentations, "normalised")
    if data.cutout:
        images = cutout(images, _for_views(draws.cutout, data))
    if data.random_erasing.probability:
        images = cutout(images, _for_views(draws.erased, data))
    if not (data.mixup or data.cutmix):
        return images, labels
    batch = images, F.one_hot(labels, classes).float()
    partner = images.roll(1, 0), batch[1].roll(1, 0)
    if data.mixup:
        batch = mixup(batch, partner, draws.mixup)
    if data.cutmix:
        batch = cutmix(batch, partner, draws.cutmix)
    return batch


def _change_pixels(images: Tensor, draws: AugmentationDraws, data: recipe.DataConfig) -> Tensor:
    """Apply the policy, and users' augmentations of pixels, to (N, side, side, 3) uint8."""
    has_policy = data.policy.name != "none"
    if not (has_policy or has_stage(data.augmentations, "pixels")):
        return images
    planes = images.permute(0, 3, 1, 2).contiguous()
    if has_policy:
        planes = policy_views(planes, draws.policy, draws.policy_weights, data.policy)
    planes = apply_own(planes, _for_views(draws.own, data), data.augmentations, "pixels")
    return planes.permute(0, 2, 3, 1).contiguous()


def _for_views(drawn: Tensor, data: recipe.DataConfig) -> Tensor:
    """Return the draws of N images, (N, …), for all their views, one after the other."""
    return drawn.repeat(data.policy.views, 1) if data.policy.views > 1 else drawn


def crop_and_flip(images: Tensor, corner: Tensor, flip: Tensor, *, padding: int) -> Tensor:
    """Crop each zero-padded image at `corner`, then mirror it if `flip` is set.

    Args:
        images: (N, side, side, 3) of any type; the result has the same shape and type.
        corner: (N, 2) int32, top and left, in 0 … 2 * padding.
        flip: (N,) bool.
    """
    # One gather of whole pixels does both; on the CPU, indexing rows of RGB by 32-bit indices is fastest.
    length = images.shape[1]
    side = length + 2 * padding
    at = torch.arange(length, dtype=torch.int32, device=images.device)
    image = torch.arange(len(images), dtype=torch.int32, device=images.device)
    row = image[:, None] * side + corner[:, :1] + at  # (N, length) of the N * side rows of the padded batch
    column = corner[:, 1:] + torch.where(flip[:, None], length - 1 - at, at)  # (N, length)
    index = row[:, :, None] * side + column[:, None, :]  # (N, length, length)
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    return padded.reshape(-1, 3).index_select(0, index.flatten()).view(images.shape)


def normalise_only(images: Tensor, data: recipe.DataConfig) -> Tensor:
    """Convert (N, side, side, 3) uint8 to (N, 3, side, side) float32 in [0, 1], channels_last, normalised as in `data`.

    Evaluated images get no other processing.
    """
    scale, shift = _affine(data.normalise, images.shape[1], images.device)
    rows = images.reshape(-1, 3 * images.shape[1])  # whole rows vectorise, three channels do not
    return (rows * scale).add_(shift).view(images.shape).permute(0, 3, 1, 2)


def cutout(images: Tensor, box: Tensor) -> Tensor:
    """Set each image, (N, 3, side, side), to 0 in its box, (N, 4): the mean colour if normalised, else black."""
    return images * ~_inside(box, images.shape[-1])  # stays channels_last, which `masked_fill` does not


def mixup(batch: Batch, partner: Batch, lam: Tensor) -> Batch:
    """Mix each image and target with weight λ with its partner (Zhang et al., 2018); `lam`: (N,) in [0, 1]."""
    return _blend(batch, partner, 1 - lam[:, None, None, None])


def cutmix(batch: Batch, partner: Batch, box: Tensor) -> Batch:
    """Paste the partner's `box`, (N, 4), into each image; mix targets by area (Yun et al., 2019)."""
    return _blend(batch, partner, _inside(box, batch[0].shape[-1]).float())


def _blend(batch: Batch, partner: Batch, weight: Tensor) -> Batch:
    """Interpolate by `weight`, (N, 1, 1, 1) or (N, 1, side, side), towards `partner`; targets by the mean weight."""
    share = weight.mean(dim=(1, 2, 3))[:, None]  # (N, 1)
    return batch[0].lerp(partner[0], weight), batch[1].lerp(partner[1], share)


def _inside(box: Tensor, side: int) -> Tensor:
    """Return a mask, (N, 1, side, side) bool, of the pixels inside each box, (N, 4)."""
    at = torch.arange(side, device=box.device)
    top, left, bottom, right = box[:, :, None].unbind(1)  # (N, 1) each
    rows, columns = (top <= at) & (at < bottom), (left <= at) & (at < right)  # (N, side)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


@cache  # otherwise every step would wait for a copy to the device
def _affine(normalise: bool, side: int, device: torch.device) -> Batch:
    """Return (scale, shift), (3 * side,) float32 each: the network's input is pixel * scale + shift."""
    scale, shift = pixel_affine(normalise)
    return scale.repeat(side).to(device), shift.repeat(side).to(device)


def pixel_affine(normalise: bool) -> Batch:
    """Return (scale, shift) of the red, green and blue channel, (3,) float32 each; the input is pixel * scale + shift.

    Pixels are from 0 to 255.
    """
    mean, std = (
        torch.tensor(each, dtype=torch.float32) for each in ((MEAN, STD) if normalise else ((0, 0, 0), (1, 1, 1)))
    )
    return 1 / (255 * std), -mean / std


def _draw_flip(data: recipe.DataConfig, order: Ints, *, seed: int, epoch: int) -> NDArray[np.bool_]:
    """Draw `flip`: per position, or, if alternating, per image in the first epoch, then inverted each epoch."""
    if not data.alternating_flip:
        return (np.random.default_rng(stream(seed, "flip", epoch)).random(len(order)) < 0.5) & data.flip
    begun = np.random.default_rng(stream(seed, "flip", 0)).random(len(order)) < 0.5
    return (begun[order] ^ bool(epoch % 2)) & data.flip


def _draw_mix(data: recipe.DataConfig, n: int, side: int, random: np.random.Generator) -> tuple[Floats, Ints]:
    """Draw `mixup` and `cutmix`. With both on, a fair coin assigns each image to one of them.

    λ is drawn last, as it uses a variable amount of the stream: coins and centres are the same for any alpha.
    """
    coin = random.random(n) < 0.5
    centre = random.integers(0, side, (n, 2))
    cut = coin if data.mixup and data.cutmix else np.full(n, data.cutmix > 0)
    alpha = np.where(cut, data.cutmix, data.mixup)
    lam = random.beta(alpha, alpha) if data.mixup or data.cutmix else np.ones(n)
    half = np.where(cut, side / 2 * np.sqrt(1 - lam), 0).astype(np.int64)[:, None]
    return np.where(cut, 1, lam).astype(np.float32), _boxes(centre, half, half, side)


def _boxes(centre: Ints, before: Ints | int, after: Ints | int, side: int) -> Ints:
    """Return boxes, (n, 4), around `centre`, (n, 2), row and column; clipped to the image."""
    return np.hstack([centre - before, centre + after]).clip(0, side).astype(np.int32)

"""Augmentations of users, `module:function`: a factory with typed options returns a `BatchAugmentation`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cifar_lab import extension
from cifar_lab.config.augmentation_policy import AugmentationConfig
from cifar_lab.config.built_in_names import AUGMENTATIONS
from cifar_lab.config.seeding import stream
from cifar_lab.errors import CellError, RecipeError, nearest
from cifar_lab.extension import Options

Stage = Literal["pixels", "normalised"]


@dataclass(frozen=True, kw_only=True)
class BatchAugmentation:
    """An augmentation of whole batches on the training device, with its own random numbers for each image."""

    apply: Callable[[Tensor, Tensor], Tensor]
    """Function of images, (N, 3, side, side), and random numbers, (N, numbers) float32, that returns new images.

    The numbers are uniform in [0, 1), and depend on the seed, the epoch and the image only. An image must not depend on
    others in the batch, and nothing else may be random.
    """
    numbers: int = 1
    """Random numbers for each image."""
    stage: Stage = "pixels"
    """`pixels`: uint8, after crop, flip and policy; `normalised`: float32, before Cutout and random erasing."""


def build_augmentation(config: AugmentationConfig) -> BatchAugmentation:
    """Build a user's augmentation.

    Raises:
        RecipeError: its factory returns something else.
    """
    return _build(config.name, Options(config.options))


def draw_own(configs: tuple[AugmentationConfig, ...], n: int, *, seed: int, epoch: int) -> NDArray[np.float32]:
    """Draw the random numbers of users' augmentations for images 0 … n - 1 of one epoch, side by side.

    Each has its own stream, by name; the second one of a name has another.
    """
    drawn = [np.empty((n, 0), np.float32)]
    for place, config in enumerate(configs):
        before = sum(other.name == config.name for other in configs[:place])
        random = np.random.default_rng(stream(seed, "augmentation", config.name, before, epoch))
        drawn.append(random.random((n, build_augmentation(config).numbers), np.float32))
    return np.hstack(drawn)


def apply_own(images: Tensor, numbers: Tensor, configs: tuple[AugmentationConfig, ...], stage: Stage) -> Tensor:
    """Apply users' augmentations of one stage, in their order.

    Args:
        images: (N, 3, side, side).
        numbers: (N, …) float32, as drawn by `draw_own`.
        configs: all augmentations of the recipe.
        stage: stage of those that are applied.

    Raises:
        CellError: an augmentation returns images of another shape or type, or on another device.
    """
    for config, own, columns in _with_columns(configs):
        if own.stage != stage:
            continue
        made = own.apply(images, numbers[:, columns])
        if not isinstance(made, Tensor):
            raise CellError(f"data.augmentations: {config.name} returns {type(made).__name__}, not a tensor")
        if (made.shape, made.dtype, made.device) != (images.shape, images.dtype, images.device):
            kinds = [f"{tuple(each.shape)} {each.dtype} on {each.device}" for each in (made, images)]
            raise CellError(f"data.augmentations: {config.name} returns {kinds[0]}, not {kinds[1]}")
        images = made
    return images


def has_stage(configs: tuple[AugmentationConfig, ...], stage: Stage) -> bool:
    """Tell whether one of the augmentations belongs to `stage`."""
    return any(build_augmentation(config).stage == stage for config in configs)


def _with_columns(
    configs: tuple[AugmentationConfig, ...],
) -> Iterator[tuple[AugmentationConfig, BatchAugmentation, slice]]:
    """Yield each augmentation with the columns of its random numbers."""
    first = 0
    for config in configs:
        own = build_augmentation(config)
        yield config, own, slice(first, first + own.numbers)
        first += own.numbers


@lru_cache(maxsize=64)
def _build(name: str, options: Options) -> BatchAugmentation:
    own = extension.build(AUGMENTATIONS.group, name, options)
    if not isinstance(own, BatchAugmentation):
        raise RecipeError(f"data.augmentations: {name} returns {type(own).__name__}, not a BatchAugmentation")
    if own.stage not in get_args(Stage):
        raise RecipeError(f"data.augmentations: {name}: stage={own.stage!r}{nearest(str(own.stage), get_args(Stage))}")
    if own.numbers < 0:
        raise RecipeError(f"data.augmentations: {name}: numbers={own.numbers} is below 0")
    return own

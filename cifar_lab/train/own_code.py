"""Check what recipes have of a user's own before anything is trained, except for networks and data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import torch

from cifar_lab.config.augmentation_policy import AugmentationConfig
from cifar_lab.config.recipe import CallbackConfig, MetricConfig, Recipe
from cifar_lab.data.augmentation_registry import apply_own, build_augmentation, draw_own
from cifar_lab.errors import CellError, CifarLabError, RecipeError, described
from cifar_lab.extension import Group, Options
from cifar_lab.models.registry import OF_A_DEVICE
from cifar_lab.train.callbacks import require_callback
from cifar_lab.train.lr_schedule import schedule_factor
from cifar_lab.train.metrics import build_metric
from cifar_lab.train.optimizer import require_optimizer

IMAGES = 4
"""Images that an augmentation is tried on."""
_CHECKS: Mapping[Group, Callable[[str, Options], object]] = {
    "augmentations": lambda name, options: build_augmentation(AugmentationConfig(name=name, options=options)),
    "optimizers": lambda name, _: require_optimizer(name),
    "schedules": lambda name, options: schedule_factor(name, options, 0.0),
    "metrics": lambda name, options: build_metric(MetricConfig(name=name, options=options)),
    "callbacks": lambda name, options: require_callback(CallbackConfig(name=name, options=options)),
}


def require_own_code(recipes: Iterable[Recipe]) -> None:
    """Check the augmentations, optimizers, schedules, metrics and callbacks of recipes that are not built in.

    Their factories are called, but for the classes of optimizers, which need a network, and those of callbacks, which
    may write files or open connections.

    Raises:
        RecipeError: a factory raises, or makes something of another kind.
    """
    for path, group, name, options in dict.fromkeys(each for recipe in recipes for each in recipe.extensions()):
        try:
            if group in _CHECKS:
                _CHECKS[group](name, options)
        except CifarLabError as error:
            raise RecipeError(str(error)) from error
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            raise RecipeError(f"{path}: {name}: {described(error)}") from error


def require_augmentations(recipes: Iterable[Recipe], side: int) -> None:
    """Try the augmentations of recipes that are not built in on a few images of noise, `side` pixels wide, on the CPU.

    An error that speaks of another device is left to the training.

    Raises:
        RecipeError: one fails, or returns images of another shape or type.
    """
    for config in dict.fromkeys(each for recipe in recipes for each in recipe.data.augmentations):
        _try_augmentation(config, side)


@lru_cache(maxsize=64)
def _try_augmentation(config: AugmentationConfig, side: int) -> None:
    stage = build_augmentation(config).stage
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, 3, side, side), dtype=torch.uint8, generator=noise)
    numbers = torch.from_numpy(draw_own((config,), IMAGES, seed=0, epoch=0))
    try:
        with torch.random.fork_rng(devices=[]):
            apply_own(images if stage == "pixels" else images / 255, numbers, (config,), stage)
    except CellError as error:
        raise RecipeError(str(error)) from error
    except (Exception, SystemExit) as error:
        if not OF_A_DEVICE.search(str(error)):
            raise RecipeError(f"data.augmentations: {config.name}: it fails: {described(error)}") from error

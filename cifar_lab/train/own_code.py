"""Check what recipes have of a user's own before anything is trained, except for networks and data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from cifar_lab.config.augmentation_policy import AugmentationConfig
from cifar_lab.config.recipe import CallbackConfig, MetricConfig, Recipe
from cifar_lab.data.augmentation_registry import build_augmentation
from cifar_lab.errors import CifarLabError, RecipeError, described
from cifar_lab.extension import Group, Options
from cifar_lab.train.callbacks import require_callback
from cifar_lab.train.optimizer import require_optimizer
from cifar_lab.train.registry import build_metric, schedule_factor

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
        except Exception as error:  # a user's code may raise anything
            raise RecipeError(f"{path}: {name}: {described(error)}") from error

"""Schedules and metrics by name: the built-in ones and those of users, `module:function`.

A schedule's factory returns a function from the progress of training, in [0, 1), to a factor of the learning rate.
A metric's factory returns a function from logits, (N, classes) float32, and labels, (N,) int64, both on the CPU, to a
number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from torch import Tensor

from cifar_lab import extension
from cifar_lab.config import recipe
from cifar_lab.config.built_in_names import METRICS, SCHEDULES
from cifar_lab.errors import CellError, RecipeError
from cifar_lab.extension import Options, Registered
from cifar_lab.train.evaluate import Evaluation

Metric = Callable[[Tensor, Tensor], float]


def top5(logits: Tensor, labels: Tensor) -> float:
    """Return the share of images whose label is among the five largest logits, in [0, 1]."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1).float().mean().item()


BUILT_IN_METRICS: dict[str, Metric] = {"top5": top5}


def measure_metrics(metrics: tuple[recipe.MetricConfig, ...], evaluation: Evaluation) -> dict[str, float]:
    """Return the further metrics of a recipe by key.

    Raises:
        CellError: a metric is not a finite number.
    """
    values: dict[str, float] = {}
    for metric in metrics:
        value = float(build_metric(metric)(evaluation.logits.float().cpu(), evaluation.labels))
        if not math.isfinite(value):
            raise CellError(f"train.metrics: {metric.name} is {value}, not a finite number")
        values[metric.key] = value
    return values


def schedule_factor(name: str, options: Options, progress: float) -> float:
    """Return the factor of the learning rate of a user's schedule at `progress`, in [0, 1).

    Raises:
        CellError: it is not a finite number of at least 0.
    """
    value = float(_schedule(name, Options(options))(progress))
    if not (math.isfinite(value) and value >= 0):
        raise CellError(f"schedule.name={name}: its factor at {progress:g} is {value}, not a finite number from 0 up")
    return value


def build_metric(metric: recipe.MetricConfig) -> Metric:
    """Return the function of a metric.

    Raises:
        RecipeError: a user's factory returns something else.
    """
    if metric.name in BUILT_IN_METRICS:
        return BUILT_IN_METRICS[metric.name]
    return _built_metric(metric.name, Options(metric.options))


@lru_cache(maxsize=64)
def _built_metric(name: str, options: Options) -> Metric:
    return _function("train.metrics: ", METRICS, name, options)  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _schedule(name: str, options: Options) -> Callable[[float], float]:
    return _function("schedule.name=", SCHEDULES, name, options)  # type: ignore[no-any-return]


def _function(path: str, kind: Registered, name: str, options: Options) -> Any:
    """Return the function that a user's factory makes; `path`: beginning of the message about another value."""
    made = extension.build(kind.group, name, options)
    if not callable(made):
        raise RecipeError(f"{path}{name}: its factory returns {type(made).__name__}, not a function")
    return made

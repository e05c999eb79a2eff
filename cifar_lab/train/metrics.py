"""Further metrics by name: the built-in ones and those of users, `module:function`.

A metric's factory returns a function from logits, (N, classes) float32, and labels, (N,) int64, both on the CPU, to a
number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from torch import Tensor

from cifar_lab.config import recipe
from cifar_lab.config.built_in_names import METRICS
from cifar_lab.errors import CellError
from cifar_lab.extension import Options, build_function
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
    return build_function("train.metrics: ", METRICS.group, name, options)  # type: ignore[no-any-return]

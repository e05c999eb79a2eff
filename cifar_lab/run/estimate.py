"""How long cells will take on this machine, by timing a few steps of one of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F

from cifar_lab.models.budget import cost
from cifar_lab.models.resnet import build
from cifar_lab.recipe import Recipe
from cifar_lab.run.execution import Execution, compiled
from cifar_lab.run.plan import Cell, Plan
from cifar_lab.train.precision import autocast

FORWARD_SHARE = 1 / 3
"""Cost of evaluating an image, against training on it: forward, without the two passes backward."""
START_SECONDS = 4.0
"""A worker's start, its data, and its artifacts."""
PATIENCE, GLANCE = 4.0, 0.15
"""Seconds that steps are timed for, about: where something hangs on it, and for an estimate."""
TIMED_MACS = 3_000_000_000
"""Multiply-accumulates in the forward pass of a timed step on a CPU, about: a second or less."""


Pace = Mapping[str, float]
"""Seconds of training for each multiply-accumulate of a forward pass, by the precision that a recipe asks for."""


def estimate(plan: Plan, pace: Pace) -> dict[str, float]:
    """Seconds for each cell that is not done, by fingerprint; one worker's, alone on its threads.

    A precision that was not measured is taken for the slowest that was. Expect a factor of 1.5 either way: small
    networks use a processor less well than large ones.
    """
    slowest = max(pace.values(), default=0.0)
    return {
        cell.fingerprint: START_SECONDS
        + _images(cell, plan) * pace.get(cell.recipe.train.precision, slowest) * cost(cell.recipe.model).macs
        for cell in plan.cells
        if not cell.is_done
    }


def measure(plan: Plan, execution: Execution) -> Pace:
    """The pace of the cells to be trained, from timing one network in each precision that they ask for.

    It is the network of median cost among them, with `execution`'s threads.
    """
    todo = sorted((cell for cell in plan.cells if not cell.is_done), key=lambda cell: cost(cell.recipe.model).macs)
    found: dict[str, list[Recipe]] = {}
    for cell in todo:
        found.setdefault(cell.recipe.train.precision, []).append(cell.recipe)
    middle = {precision: recipes[len(recipes) // 2] for precision, recipes in found.items()}
    return {p: seconds_per_image(recipe, execution) / cost(recipe.model).macs for p, recipe in middle.items()}


def seconds_per_image(recipe: Recipe, execution: Execution) -> float:
    """Time of one training step, per image, with `execution`'s threads; small batches keep it short on a CPU."""
    batch = recipe.train.batch_size
    if execution.device == "cpu":
        batch = min(batch, 32, max(4, TIMED_MACS // cost(recipe.model).macs))
    return time_steps(recipe, execution, batch, patience=GLANCE).step / batch


class Timed(NamedTuple):
    """Seconds of training steps."""

    first: float
    """Of the first one, in which a network is compiled where that is asked for."""
    step: float
    """Of the others, the median."""


def time_steps(recipe: Recipe, execution: Execution, batch: int | None = None, patience: float = PATIENCE) -> Timed:
    """Forward and backward, on `batch` images (none: the recipe's), with `execution`'s threads."""
    device = torch.device(execution.device)
    batch = batch or recipe.train.batch_size
    precision = execution.resolved(recipe).precision
    net = build(recipe.model, seed=0, device=device)
    forward = compiled(net) if execution.compile else net
    images = torch.zeros(batch, 3, 32, 32, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)

    def step() -> float:
        began = time.perf_counter()
        with autocast(precision, device):  # type: ignore[arg-type]
            logits = forward(images)
        F.cross_entropy(logits.float(), labels).backward()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter() - began

    with _as_a_worker(execution):
        first, times = step(), list[float]()
        until = time.perf_counter() + patience
        while not times or (time.perf_counter() + min(times) < until and len(times) < 9):
            times.append(step())
    return Timed(first, sorted(times)[len(times) // 2])


@contextmanager
def _as_a_worker(execution: Execution) -> Iterator[None]:
    """With the threads of a worker, and nothing kept from the workers afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(execution.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if execution.device == "cuda":
            torch.cuda.empty_cache()


def trained_images(cell: Cell, plan: Plan) -> int:
    """How many images an epoch of `cell` trains on, about: a split takes whole images of each class."""
    recipe, images = cell.recipe, len(plan.dataset.train_labels)
    return round(images * (1 - recipe.data.val_fraction)) if recipe.train.protocol == "holdout" else images


def _images(cell: Cell, plan: Plan) -> float:
    """How many images' training a cell costs, evaluations included."""
    recipe, images, tested = cell.recipe, len(plan.dataset.train_labels), len(plan.dataset.test_labels)
    held_out = images * recipe.data.val_fraction
    evaluated = held_out + (held_out if recipe.train.protocol == "holdout" else tested)
    return recipe.train.epochs * (trained_images(cell, plan) + FORWARD_SHARE * evaluated) + FORWARD_SHARE * tested

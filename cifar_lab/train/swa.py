"""Stochastic weight averaging: the mean of the weights at points of the last part of a training.

Izmailov et al. (2018, arXiv:1803.05407). Averaging and batch norm's new statistics are torch's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from cifar_lab.config.recipe import Recipe
from cifar_lab.config.seeding import stream
from cifar_lab.data import augmentation
from cifar_lab.data.splits import Split
from cifar_lab.train.lr_schedule import averaged_after
from cifar_lab.train.precision import Precision, autocast


class AveragedWeights:
    """Mean of a network's weights, as `torch.optim.swa_utils.AveragedModel` computes it, at the points of a recipe."""

    def __init__(self, net: nn.Module, recipe: Recipe, steps_per_epoch: int) -> None:
        self._net, self._recipe = net, recipe
        self._average = AveragedModel(net).requires_grad_(requires_grad=False)
        self._points = frozenset(averaged_after(recipe, steps_per_epoch))
        self.is_complete = False
        """True once the statistics of batch norm are those of the mean: it can be evaluated."""

    @property
    def module(self) -> nn.Module:
        """Return the network with the mean of the weights."""
        return self._average.module

    def step(self, count: int) -> None:
        """Add the network's weights to the mean if they are due after `count` steps of the training."""
        if count in self._points:
            self._average.update_parameters(self._net)

    def complete(self, split: Split, precision: Precision, seed: int) -> None:
        """Compute batch norm's statistics anew, from all training images as one epoch more would have them."""
        torch.manual_seed(stream(seed, "swa"))  # stochastic depth draws
        with autocast(precision, split.train.images.device):
            update_bn(_batches(self._recipe, split, seed), self._average)
        self.is_complete = True

    def state_dict(self) -> dict[str, Any]:
        """Return the mean and the number of its terms, without copies."""
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; its tensors are copied."""
        self._average.load_state_dict(state)


@torch.no_grad()
def _batches(recipe: Recipe, split: Split, seed: int) -> Iterator[Tensor]:
    """Yield the training images, (B, 3, side, side), in batches, ordered and augmented as in one epoch more."""
    count, side, device = len(split.train), split.shape.side, split.train.images.device
    draws = augmentation.draw_epoch(recipe.data, count, seed=seed, epoch=recipe.train.epochs, side=side, device=device)
    for first in range(0, count, recipe.train.batch_size):
        here = draws[first : first + recipe.train.batch_size]
        images, labels = split.train.take(here.order)
        yield augmentation.augment(images, labels, here, recipe.data, split.classes)[0]

"""What a network costs, counted before one weight is allocated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from cifar_lab import recipe
from cifar_lab.errors import BudgetError
from cifar_lab.models.resnet import ResNet
from cifar_lab.models.whitening import Whitening

BUDGET = 5_000_000
"""The writeup's limit on trainable parameters."""
SIDE = 32
"""Pixels of an image; each layer but the first halves them, and a pool in the stem does."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Trainable parameters, and multiply-accumulates of one image's forward pass."""

    parameters: int
    macs: int
    costliest: str
    """Name of the top-level part with most parameters, `layer3`."""
    costliest_parameters: int


@lru_cache(maxsize=4096)
def cost(model: recipe.Model) -> Cost:
    """Counts on the meta device, where no memory is taken.

    MACs are those of convolutions and linear layers: the weights of each times the places where it puts them. So does
    `torch.utils.flop_counter` count, which has to run the network, and loads torch's compiler for it: seconds.
    """
    with torch.device("meta"):
        net = ResNet(model)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    costliest = max(parts, key=lambda name: parts[name])
    return Cost(
        parameters=sum(parts.values()),
        macs=sum(_weights(module) * _places(name, model) for name, module in net.named_modules()),
        costliest=costliest,
        costliest_parameters=parts[costliest],
    )


def _weights(module: nn.Module) -> int:
    """Those that an input is multiplied with: a bias is not, nor what a norm scales by."""
    if isinstance(module, Whitening):
        return module.filters.numel()
    return module.weight.numel() if isinstance(module, (nn.Conv2d, nn.Linear)) else 0


def _places(name: str, model: recipe.Model) -> int:
    """How many pixels the module of that name makes of an image: SE and the classifier see it pooled."""
    top = name.split(".")[0]
    if name.endswith((".squeeze", ".excite")):
        return 1
    if top in {"conv1", "whitening"}:
        return SIDE**2
    layer = re.fullmatch(r"layer(\d)", top)
    return (SIDE >> (int(layer[1]) - 1 + model.stem_pool)) ** 2 if layer else 1


def require_within(name: str, model: recipe.Model, limit: int) -> None:
    """Refuse a network over the budget, naming its count, the limit and the part that costs most.

    Raises:
        BudgetError: `model` has more than `limit` trainable parameters.
    """
    counted = cost(model)
    if counted.parameters > limit:
        raise BudgetError(
            f"{name}: {counted.parameters:,} parameters, over the budget of {limit:,} "
            f"(most in {counted.costliest}: {counted.costliest_parameters:,})"
        )

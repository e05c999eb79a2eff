"""What a network costs, counted before one weight is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from cifar_lab import recipe
from cifar_lab.errors import BudgetError
from cifar_lab.models.resnet import ResNet

BUDGET = 5_000_000
"""The writeup's limit on trainable parameters."""


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
    """Counts on the meta device: shapes flow through the network, no memory is taken.

    MACs are those of convolutions and linear layers; `flop_counter` counts two FLOPs for each.
    """
    with torch.device("meta"):
        net = ResNet(model).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.empty(1, 3, 32, 32))
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    costliest = max(parts, key=lambda name: parts[name])
    return Cost(
        parameters=sum(parts.values()),
        macs=counter.get_total_flops() // 2,
        costliest=costliest,
        costliest_parameters=parts[costliest],
    )


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

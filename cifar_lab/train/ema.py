"""Exponential moving average of a network's weights, which is evaluated instead of the network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Move towards `net` by 1 - decay of the distance after each step, including batch norm's running statistics.

    The result equals that of `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn` and `use_buffers`, which
    copies its step counter from the host to the device at each step, and so would stall a GPU's queue. Integers, such
    as batch norm's counts of batches, are copied from the network.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        """Start from `net` as it is after the first step; `decay` in [0, 1)."""
        self.module = copy.deepcopy(net).requires_grad_(requires_grad=False)
        self._decay, self._begun = decay, False
        self._mine, self._theirs = (_floats(each) for each in (self.module, net))
        self._my_counts, self._their_counts = (_whole(each) for each in (self.module, net))

    @torch.no_grad()
    def step(self) -> None:
        """Update the average; call after each step of the optimizer."""
        if self._begun:
            torch._foreach_lerp_(self._mine, self._theirs, 1 - self._decay)
        else:
            torch._foreach_copy_(self._mine, self._theirs)
        if self._my_counts:
            torch._foreach_copy_(self._my_counts, self._their_counts)
        self._begun = True

    def state_dict(self) -> dict[str, Any]:
        """Return `{"steps": int, "module": {name: tensor}}`, without copies; `steps` is 0 before the first."""
        return {"steps": int(self._begun), "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; its tensors are copied."""
        self._begun = state["steps"] > 0
        self.module.load_state_dict(state["module"])


def _every(net: nn.Module) -> list[Tensor]:
    return [each.detach() for each in (*net.parameters(), *net.buffers())]


def _floats(net: nn.Module) -> list[Tensor]:
    return [each for each in _every(net) if each.is_floating_point()]


def _whole(net: nn.Module) -> list[Tensor]:
    return [each for each in _every(net) if not each.is_floating_point()]

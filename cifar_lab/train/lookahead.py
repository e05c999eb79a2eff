"""Lookahead: slow weights that follow the optimizer's fast ones (Zhang et al., 2019, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cifar_lab.config import recipe


@torch.no_grad()
def interpolate(slow: list[Tensor], fast: list[Tensor], alpha: float) -> None:
    """Move `slow` by `alpha`, in (0, 1], of the distance to `fast`, and copy it to `fast`; both in place."""
    torch._foreach_lerp_(slow, fast, alpha)
    torch._foreach_copy_(fast, slow)


class Lookahead:
    """Call `interpolate` on `parameters` after every k-th step of any optimizer.

    The optimizer is not wrapped or informed: its momentum buffer is kept (the paper's other choices are to reset or to
    interpolate it). Evaluation does not return to the slow weights either: it uses the network with its current fast
    weights, up to k - 1 steps ahead. Both choices are those of the public code.
    """

    def __init__(self, parameters: Iterable[Tensor], lookahead: recipe.LookaheadConfig) -> None:
        """Initialize the slow weights with the present `parameters`: load a warm start before."""
        self._fast = list(parameters)
        self._slow = [p.detach().clone() for p in self._fast]
        self._k, self._alpha = lookahead.k, lookahead.alpha
        self._steps = 0

    @property
    def slow(self) -> list[Tensor]:
        """Return the slow weights, without copies, in the order of the parameters."""
        return self._slow

    def advance(self) -> bool:
        """Count a step of the optimizer; return True if `interpolate` is due after it."""
        self._steps += 1
        return self._steps % self._k == 0

    def interpolate(self) -> None:
        """Interpolate, and set both slow and fast weights to the result."""
        interpolate(self._slow, self._fast, self._alpha)

    def step(self) -> None:
        """Count a step of the optimizer, and interpolate if due; call after each step."""
        if self.advance():
            self.interpolate()

    def state_dict(self) -> dict[str, Any]:
        """Return `{"steps": int, "slow": [tensor, …]}`, without copies: save them before the next step."""
        return {"steps": self._steps, "slow": self._slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; its tensors are copied, and may be on another device."""
        self._steps = state["steps"]
        for mine, theirs in zip(self._slow, state["slow"], strict=True):
            mine.copy_(theirs)

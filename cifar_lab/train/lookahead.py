"""Lookahead: slow weights that follow the optimizer's fast ones (Zhang et al., 2019, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cifar_lab import recipe


@torch.no_grad()
def interpolate(slow: list[Tensor], fast: list[Tensor], alpha: float) -> None:
    """Move `slow` by `alpha`, in (0, 1], of the way to `fast`, and set `fast` there; both in place."""
    torch._foreach_lerp_(slow, fast, alpha)
    torch._foreach_copy_(fast, slow)


class Lookahead:
    """Calls `interpolate` on `parameters` after every k-th step of any optimizer.

    The optimizer is neither wrapped nor told: its momentum buffer is kept across the jump (the paper's other
    choices are to reset it, or to interpolate it too). Nor does evaluation go back to the slow weights: it
    sees the network as it stands, with the fast weights, up to k - 1 steps ahead. Both are the public code's.
    """

    def __init__(self, parameters: Iterable[Tensor], lookahead: recipe.Lookahead) -> None:
        """The slow weights begin where `parameters` stand now: load a warm start first."""
        self._fast = list(parameters)
        self._slow = [p.detach().clone() for p in self._fast]
        self._k, self._alpha = lookahead.k, lookahead.alpha
        self._steps = 0

    @property
    def slow(self) -> list[Tensor]:
        """The slow weights themselves, in the order of the parameters."""
        return self._slow

    def advance(self) -> bool:
        """Count a step of the optimizer; whether `interpolate` is due after it."""
        self._steps += 1
        return self._steps % self._k == 0

    def interpolate(self) -> None:
        """Move slow and fast weights to where they meet."""
        interpolate(self._slow, self._fast, self._alpha)

    def step(self) -> None:
        """Count a step of the optimizer, and move the weights if they are due; call after each step."""
        if self.advance():
            self.interpolate()

    def state_dict(self) -> dict[str, Any]:
        """`{"steps": int, "slow": [tensor, …]}`, the tensors themselves: save them before the next step."""
        return {"steps": self._steps, "slow": self._slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; its tensors are copied, and may lie on another device."""
        self._steps = state["steps"]
        for mine, theirs in zip(self._slow, state["slow"], strict=True):
            mine.copy_(theirs)

"""Muon: SGD with Nesterov momentum whose matrices take orthogonal steps (Jordan et al., 2024).

Sources: https://kellerjordan.github.io/posts/muon, https://github.com/KellerJordan/Muon. `torch.optim.Muon`
is the same rule for 2-D parameters only, and most of a ResNet's are 4-D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's quintic: steep at zero, so that five steps lift small singular values; it never settles at 1."""


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Roughly the semi-orthogonal matrix nearest to `matrix`, (rows, columns): U V^T where it is U S V^T.

    Newton–Schulz leaves most singular values between 0.7 and 1.2 in place of 1, which trains as well. It
    runs in the precision of `matrix`, where Jordan's runs in bfloat16: that is 3 % of the arithmetic of a
    ResNet's step on 128 images, and float32 steps alike on machines with and without bfloat16 units.
    """
    a, b, c = _COEFFICIENTS
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix  # keeps the Gram matrix small
    x = x / x.norm().clamp(min=1e-7)  # the Frobenius norm bounds the spectral norm, which is at most 1 now
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # (a + b g + c g²) x
    return x.T if rows > columns else x


class Muon(torch.optim.Optimizer):
    """Muon for `matrices` and SGD for `others`: both with Nesterov momentum and decoupled weight decay.

    A matrix of four dimensions, a convolution's (out, in, k, k), is taken as (out, in * k * k). It moves by
    lr * sqrt(max(1, rows / columns)) * orthogonalise(momentum): Jordan's scale (torch's "original"), by which
    a tall matrix too changes its outputs by about lr of its inputs' size, element for element.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        groups = [
            {"params": list(matrices), "orthogonal": True},
            {"params": list(others), "orthogonal": False},
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; a `closure`, if given, computes them and the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            updates = [self._nesterov(p, p.grad, group["momentum"]) for p in parameters]
            if group["orthogonal"]:
                updates = [_orthogonal(update) for update in updates]
            if parameters:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, updates, alpha=-group["lr"])
        return loss

    def _nesterov(self, parameter: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """The gradient with momentum, seen one step ahead, as in torch's SGD."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        buffer.mul_(momentum).add_(gradient)
        return gradient.add(buffer, alpha=momentum)


def _orthogonal(update: Tensor) -> Tensor:
    """`update`, (out, in) or (out, in, k, k), orthogonalised as a matrix and scaled by its shape."""
    matrix = update.flatten(1)
    rows, columns = matrix.shape
    return (orthogonalise(matrix) * math.sqrt(max(1, rows / columns))).reshape(update.shape)

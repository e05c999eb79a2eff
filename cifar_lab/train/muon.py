"""Muon: SGD with Nesterov momentum and orthogonalised updates of matrices (Jordan et al., 2024).

Sources: https://kellerjordan.github.io/posts/muon, https://github.com/KellerJordan/Muon. `torch.optim.Muon`
implements the same rule for 2-D parameters only, while most of a ResNet's are 4-D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's quintic: steep at zero to raise small singular values in five steps; not fixed at 1."""


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return an approximation of the nearest semi-orthogonal matrix to each of `matrices`: U V^T for U S V^T.

    Newton–Schulz leaves most singular values between 0.7 and 1.2 instead of 1, which trains as well. It runs in the
    precision of `matrices`, while Jordan's runs in bfloat16: this is 3 % of the arithmetic of a ResNet's step on 128
    images, and gives the same float32 steps on machines with and without bfloat16 units.

    Args:
        matrices: (…, rows, columns); each is processed separately.
        steps: number of iterations.
    """
    a, b, c = _COEFFICIENTS
    *many, rows, columns = matrices.shape
    x = (matrices.mT if rows > columns else matrices).reshape(-1, min(rows, columns), max(rows, columns))
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # the Frobenius norm bounds the spectral norm
    for _ in range(steps):
        gram = x @ x.mT  # the smaller of the two
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # (a + b g + c g²) x
    return (x.mT if rows > columns else x).reshape(*many, rows, columns)


class Muon(torch.optim.Optimizer):
    """Muon for `matrices` and SGD for `others`: both with Nesterov momentum and decoupled weight decay.

    A matrix of four dimensions, a convolution's (out, in, k, k), is treated as (out, in * k * k). It changes by
    lr * sqrt(max(1, rows / columns)) * orthogonalise(momentum): with Jordan's scale (torch's "original"), tall
    matrices also change their outputs by about lr times the size of their inputs, element by element.
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
        """Update every parameter that has a gradient; `closure`, if given, computes gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            updates = self._nesterov(parameters, group["momentum"])
            if group["orthogonal"]:
                updates = _orthogonal(updates)
            rate = group["lr"]
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
            if isinstance(rate, Tensor):  # on the device; reading it would wait
                torch._foreach_mul_(updates, rate)
                torch._foreach_sub_(parameters, updates)
            else:
                torch._foreach_add_(parameters, updates, alpha=-rate)
        return loss

    def _nesterov(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Return the gradients with Nesterov momentum, as in torch's SGD."""
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        return list(torch._foreach_add(gradients, buffers, alpha=momentum))


def _orthogonal(updates: list[Tensor]) -> list[Tensor]:
    """Return `updates`, (out, in) or (out, in, k, k) each, orthogonalised as matrices and scaled by their shapes.

    Matrices of equal shape are processed in one batch: a ResNet has about twenty, of about six shapes.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, update in enumerate(updates):
        groups.setdefault((len(update), update[0].numel()), []).append(i)
    found = list(updates)
    for (rows, columns), members in groups.items():
        batch = orthogonalise(torch.stack([updates[i].flatten(1) for i in members]))
        batch *= math.sqrt(max(1, rows / columns))
        for i, matrix in zip(members, batch.unbind(), strict=True):
            found[i] = matrix.view(updates[i].shape)
    return found

"""Sharpness-aware minimization: the gradient at nearby weights of higher loss, applied to the weights themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from cifar_lab.config import recipe

ADDED_TO_SIZES = 0.01
"""η of Kwon et al.: added to the size of a weight, so that one that is 0 moves as well."""
SMALLEST_NORM = 1e-12
"""Lower limit of the gradient's norm, by which the step is divided."""


class SharpnessAwareness:
    """Find the gradients of the loss at w + e(w) for the weights w (Foret et al., 2021, arXiv:2010.01412, eq. 2).

    e = rho * g / ‖g‖ for the gradient g at w. The adaptive one is e = rho * T² g / ‖T g‖, where T is |w| + 0.01 for
    weights, and 1 for biases, as in the authors' code (Kwon et al., 2021, arXiv:2102.11600).

    The weights are restored from a copy, so that they keep their bits. So do the buffers: running statistics of batch
    norm follow the first pass only. A gradient scaler's factor does not change e; if the first gradients overflow, so
    do the second, and the scaler skips the step.
    """

    def __init__(self, net: nn.Module, sam: recipe.SAMConfig) -> None:
        """Allocate a copy of the weights and buffers of `net`."""
        self._named = [(name, each) for name, each in net.named_parameters() if each.requires_grad]
        self._rho, self._adaptive = sam.rho, sam.adaptive
        live = [each.detach() for each in (*(weight for _, weight in self._named), *net.buffers())]
        floats = [each for each in live if each.is_floating_point()]
        self._live = floats, [each for each in live if not each.is_floating_point()]
        self._kept = [[torch.empty_like(each) for each in some] for some in self._live]

    def second_pass(self, backward: Callable[[], object]) -> None:
        """Replace the gradients at the weights by those at the perturbed weights.

        `backward` takes the second forward and backward pass, from gradients that are None.
        """
        self._copy(self._live, self._kept)
        self._climb()
        for _, weight in self._named:
            weight.grad = None
        backward()
        self._copy(self._kept, self._live)

    @staticmethod
    @torch.no_grad()
    def _copy(source: Iterable[list[Tensor]], target: Iterable[list[Tensor]]) -> None:
        """Copy floating point numbers and integers, each in one kernel on a GPU."""
        for theirs, mine in zip(source, target, strict=True):
            if mine:
                torch._foreach_copy_(mine, theirs)

    @torch.no_grad()
    def _climb(self) -> None:
        """Add e to the weights, in place; no value is read, so that nothing waits for a GPU."""
        known = [(weight, weight.grad, name) for name, weight in self._named if weight.grad is not None]
        weights: list[Tensor] = [weight for weight, _, _ in known]
        steps = [gradient for _, gradient, _ in known]
        sizes = [_sizes(weight, name) for weight, _, name in known] if self._adaptive else []
        if sizes:
            steps = list(torch._foreach_mul(steps, sizes))
        norm = get_total_norm(steps).clamp(min=SMALLEST_NORM)
        if sizes:
            torch._foreach_mul_(steps, sizes)
        torch._foreach_add_(weights, list(torch._foreach_mul(steps, self._rho / norm)))


def _sizes(weight: Tensor, name: str) -> Tensor:
    """Return the diagonal of T for the parameter of this name, in its shape."""
    if name.rpartition(".")[2] != "weight":
        return torch.ones_like(weight)
    return weight.abs().add_(ADDED_TO_SIZES)

"""Gradient clipping, and the gradient norm before it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from cifar_lab.config import recipe


def clip(parameters: Iterable[Tensor], clip: recipe.ClipConfig) -> Tensor:
    """Clip the gradients of `parameters` in place, and return their total 2-norm from before.

    `value` clamps each element to ±threshold. `norm` scales all gradients by one factor,
    min(1, threshold / (norm + 1e-6)). `none` leaves them as they are.

    Returns:
        The norm, 0-dimensional, on the gradients' device. It is not read here, so that nothing waits for a GPU.
    """
    parameters = list(parameters)
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip.by == "value":
        clip_grad_value_(parameters, clip.threshold)
    elif clip.by == "norm":
        clip_grads_with_norm_(parameters, clip.threshold, norm)
    return norm

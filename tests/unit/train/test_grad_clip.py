"""Gradient clipping against formulas written in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cifar_lab.config.recipe import ClipConfig
from cifar_lab.train.grad_clip import clip

SHAPES = [(8, 3, 3, 3), (8,), (10, 8), (1,)]


def parameters(scale: float = 1.0, *, device: str = "cpu") -> list[torch.nn.Parameter]:
    """Parameters with random gradients, and a last one without."""
    rng = np.random.default_rng(0)
    made = []
    for shape in SHAPES:
        parameter = torch.nn.Parameter(torch.zeros(shape, device=device))
        parameter.grad = torch.tensor(scale * rng.normal(size=shape), dtype=torch.float32, device=device)
        made.append(parameter)
    return [*made, torch.nn.Parameter(torch.zeros(5, device=device))]


def flat_gradient(of: list[torch.nn.Parameter]) -> NDArray[np.float32]:
    return np.concatenate([p.grad.numpy().ravel() for p in of if p.grad is not None])


@pytest.mark.parametrize("by", ["none", "value", "norm"])
@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_the_norm_is_that_of_the_whole_gradient_before_clipping(by: str, scale: float) -> None:
    before = flat_gradient(parameters(scale))
    norm = clip(parameters(scale), ClipConfig.model_validate({"by": by, "threshold": 0.1}))
    assert norm.shape == ()
    assert_allclose(norm, np.sqrt((before.astype(np.float64) ** 2).sum()), rtol=1e-5)


def test_by_value_each_element_is_clamped() -> None:
    clipped = parameters()
    clip(clipped, ClipConfig(by="value", threshold=0.1))
    assert_allclose(flat_gradient(clipped), np.clip(flat_gradient(parameters()), -0.1, 0.1), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_by_norm_the_whole_gradient_is_scaled_down_to_the_threshold_and_never_up(scale: float) -> None:
    clipped, before = parameters(scale), flat_gradient(parameters(scale))
    clip(clipped, ClipConfig(by="norm", threshold=0.5))
    norm = float(np.linalg.norm(before))
    assert_allclose(flat_gradient(clipped), before * min(1, 0.5 / (norm + 1e-6)), rtol=1e-5)


def test_none_changes_nothing() -> None:
    untouched = parameters()
    clip(untouched, ClipConfig(by="none"))
    assert (flat_gradient(untouched) == flat_gradient(parameters())).all()


def test_parameters_may_be_an_iterator_and_those_without_a_gradient_stay_so() -> None:
    clipped = parameters()
    clip(iter(clipped), ClipConfig(by="value", threshold=0.1))
    assert abs(flat_gradient(clipped)).max() <= np.float32(0.1)
    assert clipped[-1].grad is None


def test_a_gradient_that_is_not_finite_has_a_norm_that_says_so() -> None:
    broken = parameters()
    broken[0].grad[0, 0, 0, 0] = torch.nan  # type: ignore[index]
    assert clip(broken, ClipConfig(by="value", threshold=0.1)).isnan()


@pytest.mark.parametrize("by", ["none", "value", "norm"])
def test_no_value_is_read_back_from_the_device(by: str) -> None:
    """Tensors on the meta device have no values: whoever waits for one there fails."""
    norm = clip(parameters(device="meta"), ClipConfig.model_validate({"by": by, "threshold": 0.1}))
    assert norm.is_meta

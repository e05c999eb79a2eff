"""Activations: which of them a network has, and where."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cifar_lab.config.recipe import ModelConfig, Recipe
from cifar_lab.models.cost import network_cost
from cifar_lab.models.resnet import ACTIVATIONS, BasicBlock, build_resnet

NAMES = tuple(ACTIVATIONS)
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def model(activation: str, **diff: object) -> ModelConfig:
    small = {"model.blocks": [1, 1], "model.width": 8, "model.activation": activation}
    return Recipe().override({**small, **diff}).model


def test_a_recipe_knows_the_names_that_the_network_has() -> None:
    known = ModelConfig.model_fields["activation"].annotation
    assert known.__args__ == NAMES  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
def test_a_block_is_what_torchs_function_makes_of_it(name: str) -> None:
    block = next(m for m in build_resnet(model(name), seed=0).eval().modules() if isinstance(m, BasicBlock))
    function, x = getattr(F, name), torch.randn(4, 8, 6, 6)
    branch = block.bn2(block.conv2(function(block.bn1(block.conv1(x)))))
    torch.testing.assert_close(block(x), function(branch + x))


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_the_stem_each_convolution_pair_and_the_extra_layer(name: str) -> None:
    net = build_resnet(model(name, **{"model.extra_fc": 12, "model.stem": "whitening"}), seed=0)
    calls: list[str] = []
    for part in net.modules():
        if isinstance(part, ACTIVATIONS[name]):
            part.register_forward_hook(lambda *_: calls.append(name))
    net(IMAGES)
    assert len(calls) == 1 + 2 * 2 + 1
    others = {kind for other, kind in ACTIVATIONS.items() if other != name}
    assert not any(type(part) in others for part in net.modules())


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_counts_do_not_depend_on_it_and_each_trains(name: str) -> None:
    net, plain = build_resnet(model(name), seed=0), build_resnet(model("relu"), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))
    assert network_cost(model(name)) == network_cost(model("relu"))
    net(IMAGES).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())
    assert name == "relu" or not torch.equal(net.eval()(IMAGES), plain.eval()(IMAGES))


def test_a_relu_is_in_place_and_its_gradient_is_right() -> None:
    net = build_resnet(model("relu"), seed=0).double()
    assert all(part.inplace for part in net.modules() if isinstance(part, nn.ReLU))
    images = IMAGES[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: net.eval()(x).sum(), (images,), fast_mode=True, atol=1e-4)

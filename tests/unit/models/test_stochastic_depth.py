"""Stochastic depth against torchvision's, and the rates of the blocks by the rule of Huang et al. (2016)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from cifar_lab.config.recipe import Recipe
from cifar_lab.models.resnet import BasicBlock, build_resnet, skip_at_random

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(rate: float, **diff: object) -> nn.Module:
    small = {"model.blocks": [2, 1, 1], "model.width": 8, "model.stochastic_depth": rate}
    return build_resnet(Recipe().override({**small, **diff}).model, seed=0)


def blocks(net: nn.Module) -> list[BasicBlock]:
    return [module for module in net.modules() if isinstance(module, BasicBlock)]


def test_rates_rise_linearly_to_that_of_the_last_block() -> None:
    assert [block.skipped for block in blocks(network(0.4))] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_draws_of_one_seed_are_torchvisions(probability: float, dtype: torch.dtype) -> None:
    branch = torch.randn(40, 3, 4, 4).to(dtype)
    torch.manual_seed(1)
    ours = skip_at_random(branch, probability)
    torch.manual_seed(1)
    assert torch.equal(ours, StochasticDepth(probability, mode="row").train()(branch))


@pytest.mark.parametrize("probability", [0.2, 0.5])
def test_the_share_of_skipped_images_and_the_mean_are_torchvisions_in_distribution(probability: float) -> None:
    """Compare 100,000 images, each skipped by itself: a share has a standard deviation of 0.0016 at most."""
    torch.manual_seed(0)
    branch = torch.ones(100_000, 1, 1, 1)
    ours, theirs = skip_at_random(branch, probability), StochasticDepth(probability, mode="row").train()(branch)
    for drawn in (ours, theirs):
        assert (drawn == 0).float().mean().item() == pytest.approx(probability, abs=0.008)
        assert drawn.mean().item() == pytest.approx(1.0, abs=0.02)
    assert ours.unique().tolist() == pytest.approx(theirs.unique().tolist())


def test_a_skipped_block_is_its_shortcut_for_that_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    block = blocks(network(0.5, **{"model.batch_norm": False}))[1]
    x = torch.rand(4, 8, 5, 5)
    monkeypatch.setattr(
        "cifar_lab.models.resnet.skip_at_random", lambda y, _: y * torch.tensor([0.0, 1, 0, 1]).view(4, 1, 1, 1)
    )
    kept = block.train()(x)
    assert torch.equal(kept[[0, 2]], x[[0, 2]]), "x is not negative, so that the last ReLU leaves it"
    assert torch.equal(kept[[1, 3]], block.eval()(x)[[1, 3]])


def test_evaluation_skips_nothing_and_has_the_weights_of_the_plain_network() -> None:
    plain, deep = network(0.0).eval(), network(0.9).eval()
    assert plain.state_dict().keys() == deep.state_dict().keys()
    assert torch.equal(plain(IMAGES), deep(IMAGES))


def test_training_skips_and_a_seed_repeats_it() -> None:
    net, plain = network(0.9).train(), network(0.0).train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(net(IMAGES))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], plain(IMAGES))


def test_without_it_no_random_number_is_drawn() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    network(0.0).train()(IMAGES)
    assert torch.equal(torch.rand(1), expected)

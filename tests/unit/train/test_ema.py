"""The moving average follows torch's own, number for number, and goes on from where it was saved."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cifar_lab.train.ema import ExponentialMovingAverage


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def train(net: nn.Module, steps: int, *followers: object) -> None:
    """Steps of SGD on noise; after each, those that follow are told."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        for each in followers:
            each.step() if isinstance(each, ExponentialMovingAverage) else each.update_parameters(net)  # type: ignore[attr-defined]


@pytest.fixture
def net() -> nn.Module:
    net = network()
    net(torch.randn(2, 3, 6, 6))  # gives the last layer its shape
    return net


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_it_is_torchs_own_average(decay: float, net: nn.Module) -> None:
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    ours = ExponentialMovingAverage(net, decay)
    train(net, 7, theirs, ours)
    expected = theirs.module.state_dict()
    for name, value in ours.module.state_dict().items():
        wanted = net.state_dict()[name] if "num_batches" in name else expected[name]
        assert torch.equal(value, wanted), name


def test_it_lies_between_what_the_network_was_and_is(net: nn.Module) -> None:
    ours = ExponentialMovingAverage(net, 0.9)
    train(net, 1, ours)
    first = copy.deepcopy(net.state_dict())
    assert all(torch.equal(value, first[name]) for name, value in ours.module.state_dict().items())
    train(net, 1, ours)
    weight = 0.9 * first["0.weight"] + 0.1 * net.state_dict()["0.weight"]
    torch.testing.assert_close(ours.module.state_dict()["0.weight"], weight)


def test_saved_and_loaded_it_goes_on(net: nn.Module) -> None:
    ours = ExponentialMovingAverage(net, 0.9)
    train(net, 3, ours)
    twin = copy.deepcopy(net)
    loaded = ExponentialMovingAverage(twin, 0.9)
    loaded.load_state_dict(copy.deepcopy(ours.state_dict()))
    for one, average in ((net, ours), (twin, loaded)):
        torch.manual_seed(1)
        train(one, 3, average)
    assert all(torch.equal(a, b) for a, b in zip(_tensors(ours), _tensors(loaded), strict=True))


def _tensors(average: ExponentialMovingAverage) -> list[torch.Tensor]:
    return list(average.module.state_dict().values())


def test_its_weights_are_not_trained(net: nn.Module) -> None:
    assert not any(each.requires_grad for each in ExponentialMovingAverage(net, 0.9).module.parameters())
    assert all(each.requires_grad for each in net.parameters())

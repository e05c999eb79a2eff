"""The optimizer a recipe names: torch's own, or Muon, over every parameter once."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from cifar_lab.config.built_in_names import OPTIMIZERS
from cifar_lab.config.recipe import OptimizerConfig
from cifar_lab.train.muon import Muon
from cifar_lab.train.optimizer import build_optimizer, split_for_muon

NAMES = OPTIMIZERS.built_in


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.extra_fc = nn.Sequential(nn.Linear(8, 6), nn.ReLU())
        self.classifier = nn.Linear(6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.extra_fc(self.bn1(self.conv1(x)).mean((2, 3))))  # type: ignore[no-any-return]


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 0) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(20, 3, 8, 8, generator=generator), torch.arange(20) % 10
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.8, "nesterov": False}),
        ("sgd_nesterov", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        ("adagrad", torch.optim.Adagrad, {}),
        ("adam", torch.optim.Adam, {"decoupled_weight_decay": False}),
        ("adamw", torch.optim.AdamW, {"decoupled_weight_decay": True}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.8}),
        ("adadelta", torch.optim.Adadelta, {}),
        ("muon", Muon, {"momentum": 0.8}),
    ],
)
def test_name_and_numbers_of_the_recipe_reach_the_optimizer(name: Any, kind: type, settings: dict[str, Any]) -> None:
    optimizer = build_optimizer(network(), OptimizerConfig(name=name, lr=0.03, momentum=0.8, weight_decay=0.002))
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert {"lr": 0.03, "weight_decay": 0.002, **settings}.items() <= group.items()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_group(name: Any) -> None:
    model = network()
    held = [p for group in build_optimizer(model, OptimizerConfig(name=name)).param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("all_decay", [True, False])
def test_biases_and_norms_decay_unless_they_are_spared(name: Any, all_decay: bool) -> None:
    """Without a gradient, decay alone moves a parameter."""
    model = network()
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.1, decay_norms=all_decay))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    matrices = {key for key, value in before.items() if value.ndim >= 2}
    assert moved == ({key for key, value in before.items() if value.any()} if all_decay else matrices)


@pytest.mark.parametrize("all_decay", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_group_spared_or_not(name: Any, all_decay: bool) -> None:
    model = network()
    groups = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.1, decay_norms=all_decay)).param_groups
    assert sorted(map(id, model.parameters())) == sorted(id(p) for group in groups for p in group["params"])


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(name: Any) -> None:
    model = network()
    losses = train(
        model, build_optimizer(model, OptimizerConfig(name=name, lr=1.0 if name == "adadelta" else 0.02)), 15
    )
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_a_saved_state_as_if_never_stopped(name: Any) -> None:
    first, second = network(), network()
    optimizer = build_optimizer(first, OptimizerConfig(name=name, lr=0.02))
    train(first, optimizer, 3)
    file = io.BytesIO()
    torch.save([first.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    second.load_state_dict(weights)
    resumed = build_optimizer(second, OptimizerConfig(name=name, lr=0.02))
    resumed.load_state_dict(state)
    assert train(second, resumed, 3) == train(first, optimizer, 3)


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel], ids=["plain", "wrapped"])
def test_muon_takes_convolutions_and_hidden_linears_and_leaves_the_rest(wrap: Any) -> None:
    model = wrap(network())
    names = {id(p): name.removeprefix("module.") for name, p in model.named_parameters()}
    matrices, others = split_for_muon(model)
    assert [names[id(p)] for p in matrices] == ["conv1.weight", "extra_fc.0.weight"]
    assert [names[id(p)] for p in others] == [
        "conv1.bias",
        "bn1.weight",
        "bn1.bias",
        "extra_fc.0.bias",
        "classifier.weight",
        "classifier.bias",
    ]

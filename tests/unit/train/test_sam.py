"""Sharpness-aware minimization against a few lines of its own, with what it must leave as it was."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unit.train.test_step import trainer

from cifar_lab.config.built_in_names import OPTIMIZERS
from cifar_lab.config.recipe import Recipe, SAMConfig
from cifar_lab.data import augmentation
from cifar_lab.train.sam import SharpnessAwareness
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

SMALL = {
    "model.width": 8, "model.blocks": [1, 1], "train.batch_size": 16, "train.epochs": 1, "data.val_fraction": 0.2,
    "optim.lookahead.enabled": False, "optim.sam.rho": 0.05,
}  # fmt: skip
STEPS = 5


class Exact(nn.Module):
    """The network in fp64, in which rounding turns no ReLU."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())


def exact_trainer(**diff: object) -> Trainer:
    recipe = Recipe().override({**SMALL, **diff})
    made = trainer(recipe)
    return Trainer(recipe, 0, Exact(made.net), made.split, "fp32")


def take(run: Trainer, steps: int = STEPS) -> None:
    stepper = Stepper(run)
    stepper.begin_epoch()
    for _ in range(steps):
        stepper.take()
        run.step += 1


def reference(run: Trainer, climb: Any) -> nn.Module:
    """Train `run`'s network on its batches by the paper's algorithm 1, without the lab's step."""
    net, recipe = copy.deepcopy(run.net), run.recipe
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    draws = augmentation.draw_epoch(recipe.data, len(run.split.train), seed=0, epoch=0)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for step in range(STEPS):
        here = draws[16 * step : 16 * (step + 1)]
        inputs, labels = augmentation.augment(*run.split.train.take(here.order), here, recipe.data)
        for module in norms:
            module.track_running_stats = True
        optimizer.zero_grad()
        F.cross_entropy(net(inputs).float(), labels).backward()
        before = [parameter.detach().clone() for parameter in net.parameters()]
        with torch.no_grad():
            climb(net)
        for module in norms:
            module.track_running_stats = False
        optimizer.zero_grad()
        F.cross_entropy(net(inputs).float(), labels).backward()
        with torch.no_grad():
            for parameter, was in zip(net.parameters(), before, strict=True):
                parameter.copy_(was)
        nn.utils.clip_grad_value_(net.parameters(), recipe.optim.clip.threshold)
        optimizer.step()
    return net


def climb(net: nn.Module) -> None:
    length = torch.cat([parameter.grad.flatten() for parameter in net.parameters()]).norm()  # type: ignore[union-attr]
    for parameter in net.parameters():
        parameter += 0.05 * parameter.grad / length


def climb_by_size(net: nn.Module) -> None:
    sizes = {
        name: each.abs() + 0.01 if name.endswith("weight") else torch.ones_like(each)
        for name, each in net.named_parameters()
    }
    squares = sum((sizes[name] * each.grad).square().sum().item() for name, each in net.named_parameters())
    for name, parameter in net.named_parameters():
        parameter += 0.05 * sizes[name] ** 2 * parameter.grad / math.sqrt(squares)


@pytest.mark.parametrize("adaptive", [False, True])
def test_weights_and_statistics_are_those_of_the_papers_algorithm(adaptive: bool) -> None:
    run = exact_trainer(**{"optim.sam.adaptive": adaptive})
    wanted = reference(run, climb_by_size if adaptive else climb).state_dict()
    take(run)
    for name, value in run.net.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-7, atol=1e-9, msg=name)
    other = exact_trainer(**{"optim.sam.adaptive": not adaptive})
    take(other)
    assert any((value - wanted[name]).abs().max() > 1e-6 for name, value in other.net.state_dict().items())


def test_without_a_radius_there_is_no_second_pass() -> None:
    off = exact_trainer(**{"optim.sam.rho": 0.0})
    assert off.sam is None
    calls = []
    off.net.register_forward_hook(lambda *_: calls.append(1))
    take(off, 2)
    assert len(calls) == 2
    on = exact_trainer()
    on.net.register_forward_hook(lambda *_: calls.append(1))
    take(on, 2)
    assert len(calls) == 2 + 4


def test_running_statistics_follow_the_first_pass_only() -> None:
    with_sam, without = trainer(Recipe().override(SMALL)), trainer(Recipe().override({**SMALL, "optim.sam.rho": 0.0}))
    for run in (with_sam, without):
        take(run, 1)
    ours, theirs = with_sam.net.state_dict(), without.net.state_dict()
    running = [name for name in ours if "running" in name or "num_batches" in name]
    assert len(running) > 10
    assert all(torch.equal(ours[name], theirs[name]) for name in running)
    assert with_sam.losses[0] == without.losses[0], "the loss that is logged is that of the first pass"


def test_the_second_pass_leaves_the_bits_of_weights_and_buffers() -> None:
    run = trainer(Recipe().override(SMALL))
    before = {name: value.clone() for name, value in run.net.state_dict().items()}
    seen = []
    for parameter in run.parameters:
        parameter.grad = torch.full_like(parameter, math.inf)

    def backward() -> None:
        seen.append(all(parameter.isnan().all() for parameter in run.parameters))
        assert all(parameter.grad is None for parameter in run.parameters)
        run.net(torch.randn(4, 3, 32, 32)).sum().backward()

    SharpnessAwareness(run.net, SAMConfig(rho=0.05)).second_pass(backward)
    assert seen == [True], "gradients that overflow in fp16 give second ones that are not finite: the step is skipped"
    assert all(torch.equal(before[name], value) for name, value in run.net.state_dict().items())


def test_gradients_that_are_zero_move_nothing() -> None:
    net = nn.Linear(3, 2)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    seen = []

    def backward() -> None:
        seen.append(all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)))

    SharpnessAwareness(net, SAMConfig(rho=0.05, adaptive=True)).second_pass(backward)
    assert seen == [True]


@pytest.mark.parametrize("name", OPTIMIZERS.built_in)
@pytest.mark.parametrize("clip", ["none", "value", "norm"])
def test_it_trains_with_every_optimizer_and_clipping(name: str, clip: str) -> None:
    diff = {**SMALL, "optim.name": name, "optim.lr": 0.01, "optim.clip.by": clip, "optim.lookahead.enabled": True}
    run = trainer(Recipe().override(diff))
    before = [parameter.detach().clone() for parameter in run.parameters]
    take(run, 2)
    assert run.losses[:2].isfinite().all()
    assert all(parameter.isfinite().all() for parameter in run.parameters)
    assert any(not torch.equal(a, b.detach()) for a, b in zip(before, run.parameters, strict=True))


def test_in_bf16_the_step_is_near_to_that_in_fp32() -> None:
    ends = []
    for precision in ("fp32", "bf16"):
        recipe = Recipe().override(SMALL)
        made = trainer(recipe)
        run = Trainer(recipe, 0, made.net, made.split, precision)  # type: ignore[arg-type]
        take(run, 1)
        ends.append(torch.cat([parameter.detach().flatten() for parameter in run.parameters]))
    assert not torch.equal(*ends)
    assert (ends[0] - ends[1]).norm() < 0.05 * ends[0].norm()


def test_both_passes_have_one_dropout_mask() -> None:
    run = trainer(Recipe().override({**SMALL, "model.dropout": 0.5, "model.stochastic_depth": 0.5}))
    masks: list[Tensor] = []
    dropout = run.net.get_submodule("dropout")
    dropout.register_forward_hook(lambda module, inputs, output: masks.append((output == 0) & (inputs[0] != 0)))
    take(run, 2)
    assert len(masks) == 4
    for first, second in (masks[:2], masks[2:]):
        assert first.any()
        assert (first ^ second).float().mean() < 0.1, "a second mask would differ in half of its places"
    assert (masks[0] ^ masks[2]).float().mean() > 0.2


def test_a_state_has_nothing_of_it_and_a_resumed_step_is_the_same() -> None:
    recipe = Recipe().override(SMALL)
    straight, first, second = (trainer(recipe) for _ in range(3))
    take(straight, 5)
    take(first, 2)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    take(second, 3)
    assert all(torch.equal(a, b) for a, b in zip(straight.tensors(), second.tensors(), strict=True))

"""A step as a CUDA graph, as far as a CPU can show it: a stand-in for the graph replays the step's own code.

What only a GPU can show, that kernels can be captured and come to the same bits, is in tests/gpu.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train import step
from cifar_lab.train.step import EAGER_FIRST, Stepper
from cifar_lab.train.trainer import Trainer

SMALL = {
    "model.width": 8, "model.blocks": [1, 1], "train.batch_size": 16, "train.epochs": 2, "data.val_fraction": 0.2,
    "optim.lookahead.k": 2,
}  # fmt: skip
RECIPES = {
    "efficient": EFFICIENT_RESNET,
    "mixed": EFFICIENT_RESNET.override({"data.mixup": 0.4, "data.cutmix": 1.0, "model.dropout": 0.2, "train.ema": 0.5}),
    "fast": FAST,
    "sharpness": EFFICIENT_RESNET.override({"optim.sam.rho": 0.05, "model.activation": "gelu"}),
    "depth": EFFICIENT_RESNET.override({"model.stochastic_depth": 0.5, "train.swa.enabled": True}),
    "distilled": EFFICIENT_RESNET.override(
        {"train.distill.teacher": ["a" * 64, "b" * 64], "train.distill.weight": 0.7, "data.mixup": 0.4}
    ),
    "consistency": EFFICIENT_RESNET.override({"data.policy.name": "augmix", "data.policy.consistency": 12.0}),
    "by step": EFFICIENT_RESNET.override({"schedule.every": "step", "schedule.warmup": 0.3, "optim.name": "adam"}),
}
IMAGES = 150  # 120 to train on: seven whole batches and a half one


class Graph:
    """Stand in for a CUDA graph: replays the step that it was captured from."""

    def __init__(self, again: Callable[[], None]) -> None:
        self.again, self.replays = again, 0

    def replay(self) -> None:
        self.replays += 1
        self.again()


def trainer(recipe: Recipe) -> Trainer:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    data = Dataset(
        name="noise", kind="synthetic", classes=tuple("abcdefghij"), hash="noise",
        train_images=rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), train_labels=np.arange(IMAGES) % 10,
        test_images=rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), test_labels=np.arange(20) % 10,
    )  # fmt: skip
    parts = split(data, recipe.data, recipe.train.protocol, torch.device("cpu"))
    teachers = [build_resnet(recipe.model, seed=1 + i) for i in range(len(recipe.teachers))]
    return Trainer(recipe, 0, build_resnet(recipe.model, seed=0), parts, "fp32", teachers)


def stepper(run: Trainer, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Trainer], None] | None = None) -> Stepper:
    """A stepper that captures stand-ins; `wrong` happens after each replayed step."""
    made = Stepper(run)
    made._wanted = True

    def capture(moves: bool) -> Any:
        def again() -> None:
            made._step(made._offsets, moves)
            if wrong is not None:
                wrong(run)

        return Graph(again)

    monkeypatch.setattr(made, "_capture", capture)
    return made


def train(run: Trainer, steps: Stepper) -> list[Tensor]:
    for epoch in range(run.recipe.train.epochs):
        run.epoch, run.step = epoch, 0
        steps.begin_epoch()
        for _ in range(run.steps_per_epoch):
            steps.take()
            run.step += 1
    run.step = 0
    return [tensor.clone() for tensor in run.tensors()]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_replayed_and_eager_steps_come_to_the_same_bits(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe.override(SMALL)
    plain, replayed = trainer(recipe), trainer(recipe)
    steps = stepper(replayed, monkeypatch)
    ours, theirs = train(plain, Stepper(plain)), train(replayed, steps)
    assert steps.captured
    assert not steps.refused
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert plain.images_seen == replayed.images_seen == 240


def test_whole_batches_are_replayed_from_the_fourth_on_and_the_last_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = trainer(EFFICIENT_RESNET.override(SMALL))
    steps = stepper(run, monkeypatch)
    train(run, steps)
    assert run.steps_per_epoch == 8
    assert set(steps._graphs) == {False, True}, "with and without Lookahead's move"
    assert sum(graph.replays for graph in steps._graphs.values()) == 2 * 7 - EAGER_FIRST  # type: ignore[attr-defined]


def test_a_graph_that_differs_by_one_bit_is_refused_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = EFFICIENT_RESNET.override(SMALL)

    def nudge(run: Trainer) -> None:
        bias = run.parameters[-1].detach()
        bias[0] = torch.nextafter(bias[0], torch.tensor(1e9))

    plain, other = trainer(recipe), trainer(recipe)
    steps = stepper(other, monkeypatch, wrong=nudge)
    ours, theirs = train(plain, Stepper(plain)), train(other, steps)
    assert not steps.captured
    assert steps.refused == "its numbers differ from the eager step's"
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("at", [0, 1], ids=["the first graph", "the second graph"])
def test_a_step_that_cannot_be_captured_stays_eager_and_says_why(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = EFFICIENT_RESNET.override({**SMALL, "model.dropout": 0.2})
    plain, other = trainer(recipe), trainer(recipe)
    steps = stepper(other, monkeypatch)
    capture, calls = steps._capture, []

    def refuse(moves: bool) -> Any:
        calls.append(moves)
        if len(calls) > at:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return capture(moves)

    monkeypatch.setattr(steps, "_capture", refuse)
    ours, theirs = train(plain, Stepper(plain)), train(other, steps)
    assert (steps.captured, len(calls)) == (False, at + 1)
    assert steps.refused == "operation not permitted when stream is capturing"
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_without_cuda_a_graph_is_refused_with_its_reason() -> None:
    run = trainer(EFFICIENT_RESNET.override(SMALL))
    assert Stepper(run, graph=True).refused == "a cpu device has no CUDA graphs"
    assert Stepper(run).refused == ""


def test_another_epoch_is_drawn_into_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(EFFICIENT_RESNET.override(SMALL))
    steps = stepper(run, monkeypatch)
    steps.begin_epoch()
    assert steps._draws is not None
    before, place = steps._draws.order.clone(), steps._draws.order.data_ptr()
    run.epoch = 1
    steps.begin_epoch()
    assert steps._draws.order.data_ptr() == place
    assert not torch.equal(steps._draws.order, before)


@pytest.mark.parametrize("name", ["sgd", "sgd_nesterov", "muon"])
def test_a_rate_on_the_device_comes_to_the_numbers_of_one_on_the_host(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare in fp32 within rounding over one epoch; Adam and RMSprop are omitted, as capturable code needs a GPU."""
    few = {**SMALL, "train.epochs": 1, "train.batch_size": 40}
    recipe = EFFICIENT_RESNET.override({**few, "optim.name": name, "optim.lr": 0.02, "schedule.every": "step"})
    plain = trainer(recipe)
    train(plain, Stepper(plain))
    other = trainer(recipe)
    other.rate = torch.zeros(())
    other.optimizer = step_optimizer(other)
    train(other, Stepper(other))
    assert torch.is_tensor(other.optimizer.param_groups[0]["lr"])
    for ours, theirs in zip(plain.parameters, other.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    state = other.state_dict()
    assert isinstance(state["optimizer"]["param_groups"][0]["lr"], float), "a checkpoint holds numbers"
    other.load_state_dict(state)
    assert other.optimizer.param_groups[0]["lr"] is other.rate


def step_optimizer(run: Trainer) -> torch.optim.Optimizer:
    from cifar_lab.train import optimizer

    return optimizer.build_optimizer(run.net, run.recipe.optim, rate=run.rate)


def test_draws_of_the_next_epoch_are_made_beside_this_one_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(EFFICIENT_RESNET.override(SMALL))
    ahead = Stepper(run)
    ahead._drawer = step.ThreadPoolExecutor(1)
    drawn = [ahead._drawn(epoch) for epoch in range(2)]
    again = [Stepper(run)._drawn(epoch) for epoch in range(2)]
    assert all(torch.equal(a.order, b.order) and torch.equal(a.crop, b.crop) for a, b in zip(drawn, again, strict=True))
    assert ahead._ahead is None, "there is no third epoch"
    ahead.close()


@pytest.mark.parametrize("name", ["sgd", "sgd_nesterov"])
def test_a_first_step_that_is_left_out_leaves_the_momentum_at_zero(name: str) -> None:
    """A fused SGD's own buffers are memory as it comes, which a step that a scaler leaves out does not fill."""
    recipe = EFFICIENT_RESNET.override({**SMALL, "optim.name": name})
    run = trainer(recipe)
    run.rate = torch.zeros(())
    run.optimizer = step_optimizer(run)
    for parameter in run.parameters:
        parameter.grad = torch.full_like(parameter, float("inf"))
    run.optimizer.grad_scale, run.optimizer.found_inf = None, torch.ones(())  # type: ignore[attr-defined]
    before = [parameter.detach().clone() for parameter in run.parameters]
    run.optimizer.step()
    assert all(torch.equal(a, b.detach()) for a, b in zip(before, run.parameters, strict=True))
    for parameter in run.parameters:
        assert not run.optimizer.state[parameter]["momentum_buffer"].any()


def test_nan_in_the_same_place_is_no_difference() -> None:
    nan, zero = torch.tensor([float("nan"), 1.0]), torch.tensor([0.0, 1.0])
    assert step._same(nan, nan.clone())
    assert not step._same(nan, zero)
    assert not step._same(zero, zero + 1e-9 * torch.tensor([1.0, 0.0]))


def test_a_training_that_continues_another_replays_none_of_its_draws() -> None:
    every = {
        "data.cutout": 8, "data.random_erasing.probability": 0.5, "data.policy.name": "augmix",
        "data.augmentations": ["made.extensions:tint"],
    }  # fmt: skip
    cold = RECIPES["mixed"].override(SMALL | every)
    drawn: list[dict[str, Tensor]] = []
    masks: list[Tensor] = []
    for recipe in (cold, cold.override({"init_from": "a" * 64}), cold.override({"init_from": "b" * 64})):
        run = trainer(recipe)
        taking = Stepper(run)
        taking.begin_epoch()
        assert taking._draws is not None
        drawn.append(vars(taking._draws))
        taking._seed_draws()
        masks.append(torch.rand(8))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert all(not drawn[one][name].equal(drawn[other][name]) for name in drawn[one])
        assert not masks[one].equal(masks[other])

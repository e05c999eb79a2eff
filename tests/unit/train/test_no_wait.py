"""A step on a GPU waits for nothing: it reads no value back, copies nothing from the host, and knows no host tensor.

There need be no GPU: on torch's meta device there are no values, so that reading one raises, and every operation is
seen on its way. What is said of it holds for CUDA, whose queue runs on while Python is ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import augmentation, augmentation_policy
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import Split, split
from cifar_lab.models.resnet import ResNet
from cifar_lab.train import checkpoint, distillation, loop, step
from cifar_lab.train.loop import LOOK_EVERY, fit
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

DEVICE = torch.device("meta")
SMALL = {"model.width": 8, "model.blocks": (1, 1), "train.batch_size": 4, "train.epochs": 1}
MIXED = {
    "data.mixup": 0.2,
    "data.cutmix": 1.0,
    "data.cutout": 8,
    "model.dropout": 0.1,
    "model.se.placement": "block",
}
POLICIES = ("autoaugment", "randaugment", "trivialaugment", "augmix")
RECIPES = {
    "the writeup's": EFFICIENT_RESNET,
    **{name: EFFICIENT_RESNET.override({"data.policy.name": name}) for name in POLICIES},
    "with random erasing": EFFICIENT_RESNET.override({"data.random_erasing.probability": 0.5}),
    "with all augmentation": EFFICIENT_RESNET.override(MIXED),
    "clipped by norm": EFFICIENT_RESNET.override({"optim.clip.by": "norm"}),
    "fast": FAST,
    "sharpness-aware": EFFICIENT_RESNET.override({"optim.sam.rho": 0.5, "optim.sam.adaptive": True}),
    "distilled": EFFICIENT_RESNET.override(
        {"train.distill.teacher": ["a" * 64, "b" * 64], "train.distill.weight": 0.7}
    ),
    "averaged, in stochastic depth": EFFICIENT_RESNET.override(
        {"train.swa.enabled": True, "model.stochastic_depth": 0.3, "model.activation": "mish"}
    ),
}


class Waits(AssertionError):
    """An operation that a GPU's queue would have to run dry for."""


class Watch(TorchDispatchMode):
    """Raises where an operation takes a tensor of the host beside one of the device, or goes from one to the other.

    A number is no tensor; a tensor of no dimension that stays on the host is passed like a number.
    """

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        taken = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
        made = op(*args, **(kwargs or {}))
        known = [*taken, *(each for each in tree_leaves(made) if isinstance(each, Tensor))]
        places = {each.device.type for each in known if each.ndim or "copy" in str(op)}
        if places and places != {DEVICE.type}:
            raise Waits(f"{op}: {sorted(places)}")
        return made


def parts_of(recipe: Recipe, images: int, device: torch.device = DEVICE) -> Split:
    rng = np.random.default_rng(0)
    dataset = Dataset(
        name="noise", kind="synthetic", classes=tuple("abcdefghij"), hash="noise",
        train_images=rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8),
        train_labels=np.arange(images) % 10,
        test_images=rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), test_labels=np.arange(20) % 10,
    )  # fmt: skip
    return split(dataset, recipe.data, recipe.train.protocol, device)


def trainer(recipe: Recipe, images: int) -> tuple[Trainer, Stepper]:
    parts = parts_of(recipe, images)
    with DEVICE:
        net, *teachers = (ResNet(recipe.model) for _ in range(1 + len(recipe.teachers)))
    made = Trainer(recipe, 0, net, parts, "bf16", teachers)
    stepper = Stepper(made)
    stepper.begin_epoch()
    return made, stepper


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has none; what it casts would stay on the device."""
    for module in (step, distillation):
        monkeypatch.setattr(module, "autocast", lambda *_: nullcontext())
    augmentation._affine.cache_clear()
    augmentation_policy.operation_table.cache_clear()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_step_stays_on_the_device(recipe: Recipe) -> None:
    run, stepper = trainer(recipe.override(SMALL), 40)
    stepper.take()  # what is made once
    with Watch():
        for run.step in range(1, 1 + recipe.optim.lookahead.k):
            stepper.take()


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x * x.mean().item(),
        lambda x: x if x.sum() > 0 else x + 1,
        lambda x: x.cpu().to(DEVICE),
        lambda x: x + torch.zeros(1),
        lambda x: x + torch.zeros(x.shape).to(DEVICE),
        lambda x: x + torch.tensor(1.0).to(DEVICE),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x[x.sum(dim=(1, 2, 3)) > 0],
    ],
    ids=["item", "branch", "to the host", "host tensor", "from the host", "number from the host", "host index", "mask"],
)
def test_what_would_wait_is_found(fault: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    run, stepper = trainer(EFFICIENT_RESNET.override(SMALL), 40)
    stepper.take()
    monkeypatch.setattr(run, "forward", lambda x: run.net(fault(x)))
    with pytest.raises((Waits, RuntimeError)), Watch():
        stepper.take()


def test_losses_are_read_every_few_steps_and_at_the_end_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = trainer(EFFICIENT_RESNET.override({**SMALL, "train.batch_size": 1}), 130)
    reads = []
    monkeypatch.setattr(loop, "_first_not_finite", lambda losses: reads.append(len(losses)))
    monkeypatch.setattr(loop, "_measure", lambda run: {})
    monkeypatch.setattr(Stepper, "take", lambda self: None)
    fit(run, Quiet())
    assert run.steps_per_epoch == 120, "one of each class is val"
    assert reads == [LOOK_EVERY, 2 * LOOK_EVERY, 120]


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")  # meta tensors hold no numbers
@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad", "sgd"])
def test_after_a_resume_a_step_stays_on_the_device_too(name: str, tmp_path: Path) -> None:
    """Counters of steps that were loaded onto the device would be read back for each parameter."""
    recipe = EFFICIENT_RESNET.override({**SMALL, "optim.name": name})
    on_the_cpu = Trainer(recipe, 0, ResNet(recipe.model), parts_of(recipe, 40, torch.device("cpu")), "fp32")
    stepper = Stepper(on_the_cpu)
    stepper.begin_epoch()
    stepper.take()
    checkpoint.save(tmp_path / "checkpoint.pt", on_the_cpu.state_dict())
    state = checkpoint.load_checkpoint(tmp_path / "checkpoint.pt")
    assert state is not None
    run, stepper = trainer(recipe, 40)
    run.load_state_dict(state)
    stepper.take()
    run.step += 1
    with Watch():
        stepper.take()


class Quiet:
    """An observer that looks at nothing."""

    def step(self, epoch: int, step: int, steps: int) -> None: ...
    def epoch(self, epoch: int, values: dict[str, float]) -> None: ...
    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None: ...

    def wants_to_stop(self) -> bool:
        return False


def test_images_lie_on_the_device_as_bytes() -> None:
    run, _ = trainer(EFFICIENT_RESNET.override(SMALL), 40)
    for part in (run.split.train, run.split.watched, run.split.clean_train, run.split.test):
        assert (part.images.dtype, part.images.device) == (torch.uint8, DEVICE)
        assert {part.labels.device, part.index.device} == {DEVICE}

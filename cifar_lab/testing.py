"""Contract checks for authors of extensions: call one in a test of the package that has the extension.

    from cifar_lab.testing import check_model

    def test_my_network() -> None:
        check_model("mylab.nets:tiny", {"width": 8})

Each takes `module:function` or a registered name, and raises an AssertionError that names the rule that is broken, or
the error that a user would see.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lab import extension
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import MetricConfig, Recipe
from cifar_lab.data import cache, registry
from cifar_lab.data.augmentation import normalise_only
from cifar_lab.data.augmentation_registry import apply_own, build_augmentation, draw_own
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.errors import DataError, Interrupted, RecipeError, nearest
from cifar_lab.extension import Group
from cifar_lab.models.cost import Cost, network_cost
from cifar_lab.models.registry import build_network
from cifar_lab.train import checkpoint
from cifar_lab.train.evaluate import Evaluation
from cifar_lab.train.loop import fit
from cifar_lab.train.lr_schedule import factor
from cifar_lab.train.metrics import measure_metrics
from cifar_lab.train.optimizer import build_optimizer
from cifar_lab.train.trainer import Trainer

__all__ = [
    "check_augmentation", "check_callback", "check_dataset", "check_metric", "check_model", "check_optimizer",
    "check_schedule",
]  # fmt: skip


def check_model(target: str, options: Mapping[str, Any] | None = None, images: ImageShape = CIFAR10_SHAPE) -> Cost:
    """Check a network: counted on the meta device, equal weights for equal seeds, trainable, and its state loads.

    Returns:
        Its parameters and MACs, 0 MACs if unknown.
    """
    target = _accepted("models", target, options)
    model = Recipe().override({"model.name": target, "model.options": dict(options or {})}).model
    cost = network_cost(model, images)
    net, same, other = (build_network(model, seed=seed, images=images) for seed in (0, 0, 1))
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert trainable, "the network has no trainable parameters"
    assert cost.parameters == sum(p.numel() for p in trainable), "it has other parameters on the meta device"
    assert _same(net.state_dict(), same.state_dict()), "two networks of one seed have different weights"
    assert not _same(net.state_dict(), other.state_dict()), "the seed does not change the weights"
    batch, labels = _noise(images)
    logits = net(batch)
    assert logits.shape == (len(batch), images.classes), f"logits are {tuple(logits.shape)}, not (N, classes)"
    F.cross_entropy(logits, labels).backward()
    assert all(p.grad is not None for p in trainable), "a trainable parameter gets no gradient"
    other.load_state_dict(_saved(net.state_dict()))
    assert torch.equal(net.eval()(batch), other.eval()(batch)), "its state does not hold all that its output depends on"
    return cost


def check_optimizer(target: str, options: Mapping[str, Any] | None = None) -> None:
    """Check an optimizer: it moves the weights, follows the groups' rate, and resumes bit-equal from its state."""
    target = _accepted("optimizers", target, options)
    optim = Recipe().override({"optim.name": target, "optim.options": dict(options or {}), "optim.lr": 0.01}).optim
    straight, stopped, resumed = (_linear() for _ in range(3))
    one, two = (build_optimizer(net, optim) for net in (straight, stopped))
    before = [parameter.clone() for parameter in straight.parameters()]
    _steps(straight, one, 6)
    moved = any(not torch.equal(a, b) for a, b in zip(before, straight.parameters(), strict=True))
    assert moved, "six steps do not move the weights"
    _steps(stopped, two, 3)
    resumed.load_state_dict(_saved(stopped.state_dict()))
    three = build_optimizer(resumed, optim)
    three.load_state_dict(_saved(two.state_dict()))
    _steps(resumed, three, 3, first=3)
    assert _same(straight.state_dict(), resumed.state_dict()), "a resumed training has other weights: state is missing"
    for group in one.param_groups:
        group["lr"] = 0.0
    still = [parameter.clone() for parameter in straight.parameters()]
    _steps(straight, one, 1)
    unmoved = all(torch.equal(a, b) for a, b in zip(still, straight.parameters(), strict=True))
    assert unmoved, 'it does not read its learning rate from group["lr"]'


def check_schedule(target: str, options: Mapping[str, Any] | None = None) -> None:
    """Check a schedule: a finite factor of at least 0 at each position, the same each time."""
    target = _accepted("schedules", target, options)
    schedule = Recipe().override({"schedule.name": target, "schedule.options": dict(options or {})}).schedule
    positions = [step / 100 for step in range(100)]
    factors = [factor(schedule, position) for position in positions]
    again = [factor(schedule, position) for position in reversed(positions)]
    assert factors == again[::-1], "the factor depends on more than the position"


def check_metric(target: str, options: Mapping[str, Any] | None = None) -> None:
    """Check a metric: a finite number that is the same each time, and for any number of images."""
    target = _accepted("metrics", target, options)
    metric = MetricConfig.model_validate_json(json.dumps({"name": target, "options": dict(options or {})}))
    for count in (1, 40):
        logits = torch.randn(count, 10, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(count) % 10
        evaluation = Evaluation(0.0, 0.0, logits.argmax(1), labels, logits)
        first, second = (measure_metrics((metric,), evaluation) for _ in range(2))
        assert first == second, "the same logits give another number"
        assert all(math.isfinite(value) for value in first.values())


def check_callback(target: str, options: Mapping[str, Any] | None = None) -> None:
    """Check a callback: finite metrics, the same numbers each time, and a resumed training equal to an unbroken one.

    It trains a tiny network for three epochs of three steps, stopped in the middle of an epoch and between two.
    """
    target = _accepted("callbacks", target, options)
    recipe = _TINY.override({"train.callbacks": [{"name": target, "options": dict(options or {})}]})
    straight, again = _trained(recipe), _trained(recipe)
    assert straight == again, "the same recipe and seed give other numbers: draw from run.random(purpose)"
    for epoch, step in ((1, 3), (2, 1)):
        assert straight == _trained(recipe, stop=(epoch, step)), (
            f"stopped after step {step} of epoch {epoch}, a resumed training ends with other numbers: state is missing"
        )


def check_augmentation(
    target: str, options: Mapping[str, Any] | None = None, images: ImageShape = CIFAR10_SHAPE
) -> None:
    """Check an augmentation: shape and type stay, and an image depends on its own random numbers only.

    An image is the same in each batch that it comes in, each time, whatever torch's generator is at; normalised images
    stay finite. On a GPU, if there is one, pixels differ from those of the CPU by one level at most.
    """
    target = _accepted("augmentations", target, options)
    recipe = Recipe().override({"data.augmentations": [{"name": target, "options": dict(options or {})}]})
    configs = recipe.data.augmentations
    stage = build_augmentation(configs[0]).stage
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, images.side, images.side, 3), dtype=torch.uint8, generator=chance)
    batch = pixels.permute(0, 3, 1, 2).contiguous() if stage == "pixels" else normalise_only(pixels, recipe.data)
    numbers = torch.from_numpy(draw_own(configs, len(batch), seed=0, epoch=0))

    def augmented(at: Tensor, device: str = "cpu") -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(at[0]))
            return apply_own(batch[at].to(device), numbers[at].to(device), configs, stage).cpu()

    whole = augmented(torch.arange(len(batch)))
    assert whole.isfinite().all(), "a value is not a finite number"
    for at in (torch.tensor([5]), torch.arange(7, 20), torch.arange(len(batch)).flip(0)):
        assert augmented(at).equal(whole[at]), "an image depends on its batch, or on other chance than its numbers"
    for device in ("cuda", "mps"):
        if getattr(torch, device).is_available():
            apart = (augmented(torch.arange(len(batch)), device).double() - whole.double()).abs().max().item()
            assert apart <= (1 if stage == "pixels" else 1e-3), f"images differ between the CPU and {device}: {apart:g}"


def check_dataset(source: str) -> Dataset:
    """Check a data set: valid images and labels, the same each time it is made; `source` as `--data` takes it.

    Raises:
        AssertionError: it is not registered, makes other images each time, or takes any option.
    """
    target = _target("datasets", source.partition("?")[0])
    hashes = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict("os.environ", {cache.VARIABLE: folder}):
            dataset = registry.load_registered(source, target)
            hashes.append(dataset.hash)
    assert hashes[0] == hashes[1], "it makes other images each time"
    mark = "&" if "?" in source else "?"
    try:
        registry.load_registered(f"{source}{mark}no_such_option=1", target)
    except DataError:
        return dataset
    raise AssertionError("it takes any option: name them, so that a misspelt one is refused")


def _target(group: Group, name: str) -> str:
    """Return the `module:function` of a name; one without a module is a registered one."""
    if ":" in name:
        return name
    try:
        target = extension.find_target(group, name)
    except RecipeError as error:
        raise RecipeError(f"{group} {name}: {error}") from error
    close = nearest(name, extension.registered(group))
    assert target is not None, f"no extension of {group} is registered as '{name}'{close}"
    return target


def _accepted(group: Group, name: str, options: Mapping[str, Any] | None) -> str:
    """Return the `module:function` of a name that accepts the options, refuses an unknown one, and has a version."""
    target = _target(group, name)
    extension.check_options(group, target, options or {})
    assert extension.describe_version(group, target)
    try:
        extension.check_options(group, target, {**(options or {}), "no_such_option": 1})
    except RecipeError:
        return target
    raise AssertionError("it takes any option: name them, so that a misspelt one is refused")


_TINY = Recipe().override(
    {
        "model.blocks": [1], "model.width": 4, "train.epochs": 3, "train.batch_size": 8, "data.val_fraction": 0.25,
        "optim.lookahead.k": 2, "train.precision": "fp32",
    }
)  # fmt: skip
"""Recipe of a training that takes a fraction of a second."""


class _Stopping:
    """Observer that stops after a step, and keeps the metrics that do not depend on time."""

    def __init__(self, stop: tuple[int, int] | None) -> None:
        self.values: dict[int, dict[str, float]] = {}
        self.state: dict[str, Any] = {}
        self._stop, self._now = stop, (0, 0)

    def step(self, epoch: int, step: int, steps: int) -> None:  # noqa: ARG002 (the observer's signature)
        self._now = (epoch, step)

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        timed = {"images_per_second", "seconds", "epoch_seconds"}
        self.values[epoch] = {name: value for name, value in values.items() if name not in timed}

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None:  # noqa: ARG002
        self.state = _saved(state)

    def wants_to_stop(self) -> bool:
        return self._now == self._stop


def _trained(recipe: Recipe, stop: tuple[int, int] | None = None) -> tuple[dict[int, dict[str, float]], list[bytes]]:
    """Return the metrics of each epoch and the bytes of the weights; `stop`: the epoch and step after which to resume.

    The epoch that a stop breaks off has its metrics from the resumed training.
    """
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 4
    noise = Dataset(
        name="noise", kind="synthetic", classes=("a", "b", "c", "d"), hash="noise",
        train_images=images[:32], train_labels=labels[:32], test_images=images[32:], test_labels=labels[32:],
    )  # fmt: skip
    parts = split(noise, recipe.data, recipe.train.protocol, torch.device("cpu"))

    def trainer() -> Trainer:
        return Trainer(recipe, 0, build_network(recipe.model, seed=0, images=noise.shape), parts, "fp32")

    run, observer = trainer(), _Stopping(stop)
    values = observer.values
    try:
        fit(run, observer)
    except Interrupted:
        run, rest = trainer(), _Stopping(None)
        run.load_state_dict(observer.state)
        fit(run, rest)
        values = values | rest.values
    return values, [tensor.numpy().tobytes() for tensor in run.evaluated.state_dict().values()]


def _noise(images: ImageShape) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, images.side, images.side, generator=chance), torch.arange(4) % images.classes


def _linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def _steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int, first: int = 0) -> None:
    for step in range(first, first + count):
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), torch.arange(8) % 3).backward()
        optimizer.step()


def _saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return `state` as it is after a checkpoint was written and read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        checkpoint.save(path, {"state": state})
        loaded = checkpoint.load_checkpoint(path)
    assert loaded is not None
    return loaded["state"]  # type: ignore[no-any-return]


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

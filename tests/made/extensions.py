"""Extensions as a user would write them: a network, a data set, augmentations, an optimizer, metrics, callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from cifar_lab.data.augmentation_registry import BatchAugmentation
from cifar_lab.data.dataset import ImageArrays
from cifar_lab.extension import Extension
from cifar_lab.train.callbacks import Callback
from cifar_lab.train.trainer import Trainer


class Tiny(nn.Module):
    """One convolution with dropout and a linear layer."""

    def __init__(self, *, classes: int, width: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3))))


def counts_on_host(*, classes: int) -> nn.Module:
    """A network whose forward pass reads a value, which no tensor on the meta device has."""

    class Reads(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum().item() < 1e9 else super().forward(-x)

    return Reads(classes=classes)


class Tied(nn.Module):
    """One block that is applied several times, and a second name of the first layer: weights and statistics shared."""

    def __init__(self, *, classes: int, width: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        block = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(*[block] * depth)
        self.classifier = nn.Linear(width, classes)
        self.first = self.stem

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean(dim=(2, 3)))


def called_once(*, classes: int, side: int) -> nn.Module:
    """A network with a layer whose size is known after the first images."""
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    net(torch.zeros(1, 3, side, side))
    return net


def partly_frozen(*, classes: int) -> nn.Module:
    net = Tiny(classes=classes)
    net.conv.requires_grad_(requires_grad=False)
    return net


def wrong_outputs(*, classes: int) -> nn.Module:
    return Tiny(classes=classes + 1)


def only_three(*, classes: int) -> nn.Module:
    """A network for three classes."""
    if classes != 3:
        raise ValueError(f"three classes, not {classes}")
    return Tiny(classes=classes)


class Signed(torch.optim.Optimizer):
    """Steps of equal length along the sign of the averaged gradient."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "beta": beta})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["beta"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(average.sign(), alpha=group["lr"])


class Forgetful(Signed):
    """Keeps its average where no checkpoint has it."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.__dict__.setdefault("averages", {}).setdefault(parameter, torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["beta"])
                parameter.sub_(average.sign(), alpha=group["lr"])


class HalvesOptions(BaseModel, strict=True, extra="forbid"):
    """Options of `HALVES`."""

    at: float = 0.5
    kind: Literal["step", "hold"] = "step"


def halves(*, at: float, kind: str) -> Callable[[float], float]:
    return lambda progress: 0.5 if kind == "step" and progress >= at else 1.0


HALVES = Extension(factory=halves, options=HalvesOptions, version="2")


def blobs(*, classes: int = 3, side: int = 16, count: int = 4) -> tuple[tuple[str, ...], ImageArrays]:
    """Noise around one brightness for each class."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(classes, dtype=np.int64), count)
    images = (rng.integers(0, 60, (len(labels), side, side, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    return tuple(f"blob{number}" for number in range(classes)), ImageArrays(images, labels, images, labels)


def broken_blobs() -> tuple[tuple[str, ...], ImageArrays]:
    classes, arrays = blobs()
    return classes, arrays._replace(test_images=arrays.test_images.astype(np.float32))  # type: ignore[arg-type]


def top_k(*, k: int = 2) -> Callable[[Tensor, Tensor], float]:
    return lambda logits, labels: (logits.topk(k).indices == labels[:, None]).any(1).float().mean().item()


def undefined() -> Callable[[Tensor, Tensor], float]:
    return lambda logits, labels: float("nan")


class Noise(Callback):
    """Adds noise to the gradients, less in each step, and logs how much it was."""

    def __init__(self, *, size: float = 0.01) -> None:
        self.size, self.added = size, 0.0

    def after_backward(self, trainer: Trainer) -> None:
        chance = trainer.random("noise")
        for parameter in trainer.parameters:
            assert parameter.grad is not None
            parameter.grad += self.size * torch.randn(parameter.shape, generator=chance)
        self.added += self.size
        self.size *= 0.9

    def after_epoch(self, trainer: Trainer) -> Mapping[str, float]:
        return {"added": self.added}

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size, "added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.size, self.added = state["size"], state["added"]


class StatelessNoise(Noise):
    """Keeps nothing for a resumed training."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class GlobalNoise(Callback):
    """Draws from torch's generator as it is."""

    def after_step(self, trainer: Trainer) -> None:
        for parameter in trainer.parameters:
            parameter.data += 0.01 * torch.randn(parameter.shape)


class Diary(Callback):
    """Writes down what is called, and acts in no step."""

    calls: list[str]

    def begin(self, trainer: Trainer) -> None:
        self.calls = [f"begin {trainer.epoch}/{trainer.step}"]

    def after_epoch(self, trainer: Trainer) -> None:
        self.calls.append(f"epoch {trainer.epoch}/{trainer.step}")

    def end(self, trainer: Trainer) -> None:
        self.calls.append("end")


class FullDiary(Diary):
    """Writes down the steps, too."""

    def after_backward(self, trainer: Trainer) -> None:
        self.calls.append(f"backward {trainer.epoch}/{trainer.step}")

    def after_step(self, trainer: Trainer) -> None:
        self.calls.append(f"step {trainer.epoch}/{trainer.step}")


class AlienState(Callback):
    """Keeps what no checkpoint holds."""

    def state_dict(self) -> dict[str, Any]:
        return {"seen": {1, 2}}


class NotANumber(Callback):
    def after_epoch(self, trainer: Trainer) -> Mapping[str, float]:
        return {"norm": float("nan")}


class OddName(Callback):
    def after_epoch(self, trainer: Trainer) -> Mapping[str, float]:
        return {"norm of α": 1.0}


class ManyNumbers(Callback):
    def after_epoch(self, trainer: Trainer) -> Mapping[str, Any]:
        return {"one": torch.ones(1), "norms": torch.ones(3)}


def not_a_callback() -> object:
    return object()


def grey(*, share: float = 0.5) -> BatchAugmentation:
    """Grey images, for a share of them."""

    def apply(images: Tensor, numbers: Tensor) -> Tensor:
        mean = images.float().mean(1, keepdim=True).to(images.dtype).expand_as(images)
        return torch.where(numbers[:, :1, None, None] < share, mean, images)

    return BatchAugmentation(apply=apply)


def tint(*, strength: float = 0.1) -> BatchAugmentation:
    """Shift each channel of the normalised images."""
    return BatchAugmentation(
        apply=lambda images, numbers: images + strength * (numbers[:, :, None, None] - 0.5),
        numbers=3,
        stage="normalised",
    )


def of_the_batch() -> BatchAugmentation:
    """Depends on the other images of the batch."""
    return BatchAugmentation(apply=lambda images, _: images.roll(1, 0))


def of_torch() -> BatchAugmentation:
    """Draws from torch's generator."""
    return BatchAugmentation(apply=lambda images, _: (images + torch.randint(0, 9, images.shape)).to(torch.uint8))


def floats() -> BatchAugmentation:
    """Returns another type than it gets."""
    return BatchAugmentation(apply=lambda images, _: images / 255)


def misspelt_stage() -> BatchAugmentation:
    return BatchAugmentation(apply=lambda images, _: images, stage="normalized")  # type: ignore[arg-type]


def no_augmentation() -> Callable[[Tensor], Tensor]:
    return lambda images: images

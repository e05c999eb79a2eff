"""Extensions as a user would write them by mistake, and some that look like it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from made.extensions import Tiny
from torch import Tensor, nn

from cifar_lab.data.augmentation_registry import BatchAugmentation
from cifar_lab.train.callbacks import Callback
from cifar_lab.train.trainer import Trainer


class OneColour(nn.Module):
    """Takes images of one channel."""

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.conv, self.classifier = nn.Conv2d(1, 4, 3), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv(x).mean(dim=(2, 3)))


class OneColourOfValues(OneColour):
    """Reads a value before it fails, so that it fails on the meta device for another reason."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * x.max().item())


class TooManyOutputs(Tiny):
    """Reads a value, and has one output too many."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classes=classes + 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * x.max().item())


class NoForward(nn.Module):
    """Has a misspelt `forward`."""

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, classes)

    def foward(self, x: Tensor) -> Tensor:
        return self.classifier(x.mean(dim=(2, 3)))


class TwoOutputs(Tiny):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


class AuxiliaryOutputs(Tiny):
    """Returns a second head's output in training mode, as Inception does."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


class FailsInTraining(Tiny):
    """Reads a value and fails, in training mode alone."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.max().item() > 0:
            raise RuntimeError("no such branch")
        return super().forward(x)


class OnlyOnAGPU(Tiny):
    """Has an operation of a GPU alone."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("Pointer argument (at 0) cannot be accessed from Triton (cpu tensor?)")


class ExtraState(Tiny):
    """Keeps more than tensors in its state."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: dict[str, int]) -> None: ...


class DoubleComplex(Tiny):
    """Has weights of a type that no file of weights holds."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classes=classes)
        self.register_buffer("phase", torch.zeros(2, dtype=torch.complex128))


class NoParameters(nn.Module):
    """Has nothing to train."""

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2, 3))[:, None].expand(-1, self.classes)


def frozen(*, classes: int) -> nn.Module:
    return Tiny(classes=classes).requires_grad_(requires_grad=False)


def lazy(*, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def smaller() -> BatchAugmentation:
    """Returns images of another size."""
    return BatchAugmentation(apply=lambda images, _: images[..., 1:, 1:])


def too_few_numbers() -> BatchAugmentation:
    return BatchAugmentation(apply=lambda images, numbers: images * (numbers[:, 1] > 0.5)[:, None, None, None])


def only_on_a_gpu() -> BatchAugmentation:
    def apply(images: Tensor, numbers: Tensor) -> Tensor:
        raise ValueError("Pointer argument (at 0) cannot be accessed from Triton (cpu tensor?)")

    return BatchAugmentation(apply=apply)


def only_16() -> BatchAugmentation:
    """An augmentation for images of one size."""
    mask = torch.ones(16, 16, dtype=torch.uint8)
    return BatchAugmentation(apply=lambda images, _: images * mask)


class PlainClass:
    """Is neither a callback nor an optimizer."""

    def __init__(self, params: object = None, lr: float = 0.0) -> None:
        raise AssertionError("no instance is made")


class Misspelt(Callback):
    def on_epoch_end(self, trainer: Trainer) -> None: ...


class Mistyped(Callback):
    def after_epcoh(self, trainer: Trainer) -> None: ...


class Helpful(Callback):
    """Has methods of its own, which read like no hook."""

    def __init__(self) -> None:
        raise AssertionError("no instance is made")

    def send(self, text: str) -> None: ...

    def warm(self) -> None: ...

    def _after_warmup(self) -> None: ...


class OfAnotherFramework:
    def on_epoch_end(self, trainer: object) -> None: ...


class ServesTwoFrameworks(Callback, OfAnotherFramework):
    def after_epoch(self, trainer: Trainer) -> None: ...

    def on_epoch_end(self, trainer: object) -> None: ...


def misspelt() -> Callback:
    return Misspelt()


def a_number() -> float:
    return 0.5


def raises() -> Callable[[float], float]:
    raise OSError("no such file: weights.csv")


def negative() -> Callable[[float], float]:
    return lambda progress: -1.0

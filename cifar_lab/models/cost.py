"""Count a network's parameters and MACs; the built-in one from its shape alone, without loading torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cifar_lab.config import recipe
from cifar_lab.config.built_in_names import MODELS
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.errors import BudgetError

BUDGET = 5_000_000
"""The writeup's limit on trainable parameters."""
LARGEST = 10**12
"""Maximum number of parameters whatever the budget: no machine holds more."""
COLOURS = 3
STEM_KERNEL = 3
PATCH = COLOURS * STEM_KERNEL**2
FILTERS = 2 * PATCH
"""Number of fixed filters of a whitening stem: each occurs with both signs, so that the next ReLU loses nothing."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Trainable parameters, and multiply-accumulates of one image's forward pass."""

    parameters: int
    macs: int
    """0: unknown, for a network of a user that cannot be counted."""
    costliest: str
    """Name of the top-level part with the most parameters, `layer3`."""
    costliest_parameters: int

    @property
    def work(self) -> int:
        """Return the MACs for estimates of time; if unknown, one for each parameter, which is a lower bound."""
        return self.macs or max(1, self.parameters)


class _Counts(NamedTuple):
    """Parameters and multiply-accumulates of a part of a network."""

    parameters: int = 0
    macs: int = 0

    def plus(self, other: _Counts, times: int = 1) -> _Counts:
        return _Counts(self.parameters + times * other.parameters, self.macs + times * other.macs)


@lru_cache(maxsize=4096)
def network_cost(model: recipe.ModelConfig, images: ImageShape = CIFAR10_SHAPE) -> Cost:
    """Return the counts of the network that `models.resnet.ResNet` builds from `model` for `images`, as exact integers.

    MACs are those of convolutions and linear layers: the number of weights times the number of output positions, half
    of what `torch.utils.flop_counter` counts. The tests compare both counts with those of built networks.
    """
    if model.name not in MODELS.built_in:
        from cifar_lab.models.registry import count_network

        return count_network(recipe.ModelConfig(name=model.name, options=model.options), images)
    parts = dict(_parts(model, images))
    costliest = max(parts, key=lambda name: parts[name].parameters)
    return Cost(
        parameters=sum(part.parameters for part in parts.values()),
        macs=sum(part.macs for part in parts.values()),
        costliest=costliest,
        costliest_parameters=parts[costliest].parameters,
    )


def require_within(name: str, model: recipe.ModelConfig, limit: int, images: ImageShape = CIFAR10_SHAPE) -> None:
    """Check that a network is within the budget; the error names its count, the limit and the largest part.

    Raises:
        BudgetError: `model` has more than `limit` trainable parameters.
    """
    counted = network_cost(model, images)
    if counted.parameters > limit:
        raise BudgetError(
            f"{name}: {counted.parameters:,} parameters, over the budget of {limit:,} "
            f"(most in {counted.costliest}: {counted.costliest_parameters:,})"
        )


def rounded_up(parameters: int) -> tuple[str, int]:
    """Return the smallest budget in whole thousands or millions that holds `parameters`, as a word and as a number."""
    unit, letter = (1_000_000, "M") if parameters > 1_000_000 else (1_000, "k")
    count = -(-parameters // unit)
    return f"{count}{letter}", count * unit


def _parts(model: recipe.ModelConfig, images: ImageShape) -> Iterator[tuple[str, _Counts]]:
    """Yield the top-level parts by name, in the order of the network."""
    side = images.side
    if model.stem == "whitening":
        yield "whitening", _Counts(macs=FILTERS * PATCH * side**2)
        yield "conv1", _conv(model, FILTERS, model.width, 1, side)
    else:
        yield "conv1", _conv(model, COLOURS, model.width, STEM_KERNEL, side)
    yield "bn1", _norm(model, model.width)
    yield "se", _se(model, model.width, placement="stem")
    channels, side = model.width, side // 2 if model.stem_pool else side
    for i in range(len(model.blocks)):
        side = side if i == 0 else -(-side // 2)  # a stride of 2 rounds up
        yield f"layer{i + 1}", _layer(model, i, channels, side)
        channels = model.width * 2**i
    if model.extra_fc is not None:
        yield "extra_fc", _linear(channels, model.extra_fc)
    yield "classifier", _linear(model.extra_fc or channels, images.classes)


def _layer(model: recipe.ModelConfig, i: int, channels_in: int, side: int) -> _Counts:
    """Count layer i, whose outputs are `side` × `side`: a first block, which may have a projection, and the others."""
    channels = model.width * 2**i
    second = _conv(model, channels, channels, model.kernels[i], side).plus(_norm(model, channels), 2)
    behind = second.plus(_se(model, channels, placement="block"))
    first = behind.plus(_conv(model, channels_in, channels, model.kernels[i], side))
    if i > 0 or channels_in != channels:
        first = first.plus(_conv(model, channels_in, channels, model.shortcut_kernels[i], side))
        first = first.plus(_norm(model, channels))
    other = behind.plus(_conv(model, channels, channels, model.kernels[i], side))
    return first.plus(other, model.blocks[i] - 1)


def _conv(model: recipe.ModelConfig, channels_in: int, channels: int, kernel: int, side: int) -> _Counts:
    """Count a convolution whose output has `side` × `side` pixels; it has a bias if no norm follows."""
    weights = channels_in * channels * kernel**2
    return _Counts(weights + (0 if model.batch_norm else channels), weights * side**2)


def _norm(model: recipe.ModelConfig, channels: int) -> _Counts:
    return _Counts(2 * channels if model.batch_norm else 0)


def _se(model: recipe.ModelConfig, channels: int, *, placement: str) -> _Counts:
    """Count squeeze-and-excitation: two 1×1 convolutions with bias on one pooled pixel."""
    if model.se.placement != placement:
        return _Counts()
    hidden = model.se.hidden(channels)
    return _Counts(2 * channels * hidden + channels + hidden, 2 * channels * hidden)


def _linear(features: int, outputs: int) -> _Counts:
    return _Counts(features * outputs + outputs, features * outputs)

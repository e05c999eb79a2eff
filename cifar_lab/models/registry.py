"""Networks by name: the built-in ones and those of users, `module:function`.

A user's factory is called as `factory(classes=…, side=…, **options)`, the last two where it takes them, and returns an
`nn.Module` that maps images, (N, 3, side, side) float32, to logits, (N, classes).
"""

from __future__ import annotations

import re
from functools import lru_cache

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cifar_lab import extension
from cifar_lab.config import recipe
from cifar_lab.config.built_in_names import MODELS
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.seeding import stream
from cifar_lab.errors import RecipeError, described
from cifar_lab.models import resnet
from cifar_lab.models.cost import BUDGET, Cost
from cifar_lab.models.single_precision import single_precision

BUILT_IN = {"resnet": resnet.build_resnet}
"""Functions that build the built-in networks, by name."""
TRIED_UP_TO = 10 * BUDGET
"""Maximum number of parameters of a network that is tried on the CPU, as that allocates its weights."""
OF_A_DEVICE = re.compile(
    r"cuda|gpu|nvidia|triton|\bhip\b|\bmps\b|\bxpu\b|device|backend|not implemented for", re.IGNORECASE
)
"""Words in the error of a network that the CPU cannot run and another device may."""


@single_precision()
def build_network(
    model: recipe.ModelConfig, *, seed: int, images: ImageShape = CIFAR10_SHAPE, device: torch.device | str = "cpu"
) -> nn.Module:
    """Build the network that `model` names, with its initial weights in float32, on `device`.

    A user's network draws its weights from torch's generator, which is seeded by `seed` and restored afterwards.

    Raises:
        RecipeError: the network of a user cannot be built.
    """
    if model.name in BUILT_IN:
        return BUILT_IN[model.name](model, seed=seed, images=images, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "init"))
        return _build(model, images).to(device)


@lru_cache(maxsize=256)
@single_precision()
def count_network(model: recipe.ModelConfig, images: ImageShape) -> Cost:
    """Count a user's network on the meta device, without allocating its weights. Shared weights are counted once.

    MACs are half of the operations that torch's counter sees in the forward pass of one image; 0 if it cannot run on
    the meta device. Then it is tried on the CPU, with weights, which tells a network that reads values from one whose
    forward pass fails.

    Raises:
        RecipeError: it cannot be built there, has nothing to train or a state that cannot be kept, its forward pass
            fails on both, or it does not map images to one logit for each class.
    """
    with torch.device("meta"):
        net = _build(model, images)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise RecipeError(f"model.name={model.name}: it has no trainable parameters")
    _require_storable(model, net)
    sizes = {name: _trainable(part) for name, part in net.named_children()} or {model.name: 0}
    costliest = max(sizes, key=lambda name: sizes[name])
    return Cost(
        parameters=_trainable(net),
        macs=_macs(model, net, images),
        costliest=costliest,
        costliest_parameters=sizes[costliest],
    )


def _build(model: recipe.ModelConfig, images: ImageShape) -> nn.Module:
    try:
        net = extension.build(MODELS.group, model.name, model.options, classes=images.classes, side=images.side)
    except RecipeError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise RecipeError(f"model.name={model.name}: {described(error)}") from error
    if not isinstance(net, nn.Module):
        raise RecipeError(f"model.name={model.name}: its factory returns {type(net).__name__}, not a torch.nn.Module")
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            raise RecipeError(
                f"model.name={model.name}: '{name}' has no shape before the first images; give its layer the sizes "
                "(nn.Linear in place of nn.LazyLinear), or call the network once in its factory, which may take side"
            )
    return net


def _require_storable(model: recipe.ModelConfig, net: nn.Module) -> None:
    """Check that a network's state can be written at the end of its training: tensors of types that a file holds.

    Raises:
        RecipeError: an entry is something else.
    """
    for name, entry in net.state_dict().items():
        try:
            save({name: torch.empty(0, dtype=entry.dtype)})
        except (AttributeError, KeyError):
            kind = str(entry.dtype) if isinstance(entry, Tensor) else type(entry).__name__
            raise RecipeError(
                f"model.name={model.name}: its state has '{name}', {kind}, which a file of weights cannot hold"
            ) from None


def _trainable(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def _macs(model: recipe.ModelConfig, net: nn.Module, images: ImageShape) -> int:
    """Return the multiply-accumulates of one image; 0 for a network that does not run on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    macs, side = 0, images.side
    try:
        with torch.device("meta"), torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                logits = net.eval()(torch.empty(1, 3, side, side))
            macs = int(counter.get_total_flops()) // 2
            in_training = net.train()(torch.empty(2, 3, side, side))
    except (Exception, SystemExit):  # noqa: BLE001 (no meta kernel, values that decide: the count is unknown)
        if sum(parameter.numel() for parameter in net.parameters()) <= TRIED_UP_TO:
            _try_on_the_cpu(model, images)
        return macs
    _require_logits(model, logits, (1, images.classes))
    _require_logits(model, in_training, (2, images.classes), " in training mode")
    return macs


def _try_on_the_cpu(model: recipe.ModelConfig, images: ImageShape) -> None:
    """Run the forward pass of two images of noise in both modes; an error that speaks of another device is let pass.

    Raises:
        RecipeError: it fails, or returns something else than logits.
    """
    net = build_network(model, seed=0, images=images)
    for is_training, mode in ((False, ""), (True, " in training mode")):
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                logits = net.train(is_training)(torch.randn(2, 3, images.side, images.side))
        except (Exception, SystemExit) as error:
            if OF_A_DEVICE.search(str(error)):
                return
            raise RecipeError(f"model.name={model.name}: its forward pass{mode} fails: {described(error)}") from error
        _require_logits(model, logits, (2, images.classes), mode)


def _require_logits(model: recipe.ModelConfig, logits: object, shape: tuple[int, int], mode: str = "") -> None:
    """Check the shape of what a network returns for `shape[0]` images; `mode` ends the error's sentence."""
    returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if returned != shape:
        mapped = "an image" if shape[0] == 1 else f"{shape[0]} images"
        raise RecipeError(f"model.name={model.name}: it maps {mapped} to {returned}{mode}, not {shape}")

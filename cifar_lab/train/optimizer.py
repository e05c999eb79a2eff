"""Construction of a recipe's optimizer for all parameters of a network."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from cifar_lab import extension
from cifar_lab.config import recipe
from cifar_lab.config.built_in_names import OPTIMIZERS
from cifar_lab.errors import RecipeError
from cifar_lab.train.muon import Muon

_ON_A_GPU: dict[str, dict[str, bool]] = {
    "sgd": {"fused": True},  # the other implementations read the learning rate back from the device
    "sgd_nesterov": {"fused": True},
    "adam": {"fused": True, "capturable": True},
    "adamw": {"fused": True, "capturable": True},
    "rmsprop": {"capturable": True},
    "adadelta": {"capturable": True},
}
"""Options that avoid synchronization and permit capture in a CUDA graph."""


def build_optimizer(
    model: nn.Module, optim: recipe.OptimizerConfig, rate: Tensor | None = None
) -> torch.optim.Optimizer:
    """Build the optimizer that `optim` names; options that a recipe lacks have torch's defaults.

    Weight decay applies to all parameters, including biases and batch norm, as in the writeup's code, unless
    `decay_norms` is off. It is added to the gradient (L2), except for methods whose authors decouple it: adamw, muon.
    All groups share one "lr".

    Args:
        model: network, on the device where it is trained.
        optim: optimizer part of a recipe.
        rate: on a GPU, tensor of shape () from which the optimizer reads its learning rate; otherwise "lr" is a number.
    """
    optimizer = _build(model, optim, _ON_A_GPU.get(optim.name, {}) if rate is not None else {})
    if rate is not None:
        bind(optimizer, rate)
    return optimizer


def bind(optimizer: torch.optim.Optimizer, rate: Tensor) -> None:
    """Make all groups of `optimizer` read their learning rate from `rate`; call again after `load_state_dict`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    # torch warns if a capturable optimizer is not captured, as in the first steps of every training.
    optimizer._warned_capturable_if_run_uncaptured = True


def _build(model: nn.Module, optim: recipe.OptimizerConfig, options: dict[str, bool]) -> torch.optim.Optimizer:
    lr, momentum, decay = optim.lr, optim.momentum, optim.weight_decay
    parameters: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if decay and not optim.decay_norms:
        parameters = [{"params": matrices(model)}, {"params": vectors(model), "weight_decay": 0.0}]
    common: dict[str, Any] = {"lr": lr, "weight_decay": decay, **options}
    match optim.name:
        case "sgd":
            return _with_momentum(torch.optim.SGD(parameters, momentum=momentum, **common))
        case "sgd_nesterov":
            return _with_momentum(torch.optim.SGD(parameters, momentum=momentum, nesterov=True, **common))
        case "adagrad":
            return torch.optim.Adagrad(parameters, **common)
        case "adam":
            return torch.optim.Adam(parameters, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, **common)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, momentum=momentum, **common)
        case "adadelta":
            return torch.optim.Adadelta(parameters, **common)
        case "muon":
            muon = Muon(*split_for_muon(model), lr=lr, momentum=momentum, weight_decay=decay)
            return muon if optim.decay_norms else _sparing_vectors(muon)
    return _registered(parameters, optim)


def _registered(parameters: list[dict[str, Any]], optim: recipe.OptimizerConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a user: `factory(groups, lr=…, weight_decay=…, **options)`.

    Raises:
        RecipeError: the factory does not return an optimizer.
    """
    made = extension.build(
        OPTIMIZERS.group, optim.name, optim.options, parameters, lr=optim.lr, weight_decay=optim.weight_decay
    )
    _require_optimizer(optim.name, type(made))
    return made  # type: ignore[no-any-return]


def require_optimizer(name: str) -> None:
    """Check a user's optimizer before there is a network; a function is not called, as it may depend on the weights.

    Raises:
        RecipeError: it is a class, and not one of optimizers.
    """
    factory = extension.load_extension(OPTIMIZERS.group, name).factory
    if inspect.isclass(factory):
        _require_optimizer(name, factory)


def _require_optimizer(name: str, kind: type) -> None:
    if not issubclass(kind, torch.optim.Optimizer):
        raise RecipeError(f"optim.name={name}: its factory returns {kind.__name__}, not a torch.optim.Optimizer")


def _with_momentum(sgd: torch.optim.SGD) -> torch.optim.SGD:
    """Give a fused `sgd` zero momentum buffers before its first step; the results are unchanged.

    Torch's own buffers are uninitialized memory, which a first step that is skipped by a gradient scaler does not fill.
    """
    for group in sgd.param_groups:
        if group.get("fused") and group["momentum"]:
            for parameter in group["params"]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of two or more dimensions: weights of convolutions and of linear layers."""
    return [parameter for parameter in model.parameters() if parameter.ndim >= 2]


def vectors(model: nn.Module) -> list[nn.Parameter]:
    """Return all other parameters: biases, and the scales of norms."""
    return [parameter for parameter in model.parameters() if parameter.ndim < 2]


def _sparing_vectors(muon: Muon) -> Muon:
    """Split the last group, so that the classifier's weight decays as before and vectors do not."""
    group = muon.param_groups.pop()
    for some, decay in ((True, group["weight_decay"]), (False, 0.0)):
        parameters = [parameter for parameter in group["params"] if (parameter.ndim >= 2) == some]
        muon.add_param_group({**group, "params": parameters, "weight_decay": decay})
    return muon


def split_for_muon(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return (weights of convolutions and hidden linear layers, all other parameters) of `model`.

    The others are vectors and the module named `classifier`, which Jordan leaves to the plain optimizer, like every
    last layer. It is found by name, also inside a wrapper such as `torch.compile`'s.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = parameter.ndim >= 2 and "classifier" not in name.split(".")
        (matrices if hidden else others).append(parameter)
    return matrices, others

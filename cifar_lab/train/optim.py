"""The optimizer that a recipe names, over all parameters of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cifar_lab import recipe
from cifar_lab.train.muon import Muon


def build(model: nn.Module, optim: recipe.Optim) -> torch.optim.Optimizer:
    """The optimizer that `optim` names; what a recipe does not say is torch's default.

    Weight decay acts on all parameters, biases and batch norm too, as in the writeup's code, unless `decay_norms` is
    off. It is added to the gradient (L2), except where the method's authors decouple it: adamw, muon. All groups share
    one "lr".
    """
    lr, momentum, decay = optim.lr, optim.momentum, optim.weight_decay
    parameters: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if decay and not optim.decay_norms:
        parameters = [{"params": matrices(model)}, {"params": vectors(model), "weight_decay": 0.0}]
    match optim.name:
        case "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay)
        case "sgd_nesterov":
            return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay, nesterov=True)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr=lr, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=lr, momentum=momentum, weight_decay=decay)
        case "adadelta":
            return torch.optim.Adadelta(parameters, lr=lr, weight_decay=decay)
        case "muon":
            muon = Muon(*split_for_muon(model), lr=lr, momentum=momentum, weight_decay=decay)
            return muon if optim.decay_norms else _sparing_vectors(muon)


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of two dimensions and more: weights of convolutions and of linear layers."""
    return [parameter for parameter in model.parameters() if parameter.ndim >= 2]


def vectors(model: nn.Module) -> list[nn.Parameter]:
    """All other parameters: biases, and the factors of norms."""
    return [parameter for parameter in model.parameters() if parameter.ndim < 2]


def _sparing_vectors(muon: Muon) -> Muon:
    """With its last group split: the classifier's weight decays as before, vectors do not."""
    group = muon.param_groups.pop()
    for some, decay in ((True, group["weight_decay"]), (False, 0.0)):
        parameters = [parameter for parameter in group["params"] if (parameter.ndim >= 2) == some]
        muon.add_param_group({**group, "params": parameters, "weight_decay": decay})
    return muon


def split_for_muon(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(weights of convolutions and hidden linear layers, all other parameters) of `model`.

    The others are vectors, and the module named `classifier`, which Jordan leaves to the plain optimizer as
    every last layer. It is found by name, also inside a wrapper such as `torch.compile`'s.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = parameter.ndim >= 2 and "classifier" not in name.split(".")
        (matrices if hidden else others).append(parameter)
    return matrices, others

"""The optimizer that a recipe names, over all parameters of a network."""

from __future__ import annotations

import torch
from torch import nn

from cifar_lab import recipe
from cifar_lab.train.muon import Muon


def build(model: nn.Module, optim: recipe.Optim) -> torch.optim.Optimizer:
    """The optimizer that `optim` names; what a recipe does not say is torch's default.

    Weight decay acts on all parameters, biases and batch norm too, as in the writeup's code. It is added to
    the gradient (L2), except where the method's authors decouple it: adamw, muon. All groups share one "lr".
    """
    parameters = list(model.parameters())
    lr, momentum, decay = optim.lr, optim.momentum, optim.weight_decay
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
            return Muon(*split_for_muon(model), lr=lr, momentum=momentum, weight_decay=decay)


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

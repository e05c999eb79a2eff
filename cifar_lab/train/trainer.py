"""State of one training: everything that changes while a recipe is trained, and can be saved and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cifar_lab.config.built_in_names import OPTIMIZERS
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.seeding import seed_of_draws, stream
from cifar_lab.data.splits import Split
from cifar_lab.train import optimizer
from cifar_lab.train.callbacks import Callbacks
from cifar_lab.train.distillation import Distillation
from cifar_lab.train.ema import ExponentialMovingAverage
from cifar_lab.train.lookahead import Lookahead
from cifar_lab.train.lr_schedule import rate_at
from cifar_lab.train.precision import Precision, scaler
from cifar_lab.train.sam import SharpnessAwareness
from cifar_lab.train.swa import AveragedWeights


class Trainer:
    """Network, optimizer, averages and counters of one training; they can be saved and loaded at any step."""

    def __init__(
        self, recipe: Recipe, seed: int, net: nn.Module, split: Split, precision: Precision,
        teachers: Sequence[nn.Module] = (), *, graph: bool = False,
    ) -> None:  # fmt: skip
        """Build the optimizer and the averages around `net`; load a warm start into `net` before.

        Args:
            teachers: the networks of `recipe.teachers`, on the device of `net`.
            graph: replay each step as one CUDA graph, if possible.
        """
        distill = recipe.train.distill
        assert bool(teachers) == bool(distill.weight), "a recipe that distills, and no other, is trained with teachers"
        assert len(teachers) == len(recipe.teachers), "all teachers of a recipe are there"
        self.recipe, self.seed, self.net, self.split, self.precision = recipe, seed, net, split, precision
        self.seed_of_draws = seed_of_draws(seed, recipe.init_from)
        self.device = split.train.images.device
        self.forward: nn.Module = net
        """The network that a step calls; set it to the compiled one before the training begins."""
        self.graph = graph
        self.parameters = list(net.parameters())
        reads_rate = self.device.type == "cuda" and recipe.optim.name in OPTIMIZERS.built_in
        self.rate = torch.zeros((), device=self.device) if reads_rate else None
        """Learning rate on a GPU, (), from which a built-in optimizer reads it; None elsewhere: it gets a number."""
        self.optimizer = optimizer.build_optimizer(net, recipe.optim, rate=self.rate)
        self.scaler = scaler(precision, self.device)
        self.lookahead = Lookahead(self.parameters, recipe.optim.lookahead) if recipe.optim.lookahead.enabled else None
        self.ema = ExponentialMovingAverage(net, recipe.train.ema) if recipe.train.ema else None
        self.sam = SharpnessAwareness(net, recipe.optim.sam) if recipe.optim.sam.rho else None
        self.distillation = Distillation(teachers, distill) if teachers else None
        self.steps_per_epoch = recipe.steps_per_epoch(len(split.train))
        self.swa = AveragedWeights(net, recipe, self.steps_per_epoch) if recipe.train.swa.enabled else None
        self.callbacks = Callbacks(recipe.train.callbacks)
        self.epoch, self.step, self.images_seen = 0, 0, 0
        self.epoch_seconds, self.seconds = 0.0, 0.0
        # One loss per step of the current epoch, kept on the device to avoid synchronization.
        self.losses = torch.zeros(self.steps_per_epoch, device=self.device)
        self.norms = torch.zeros(self.steps_per_epoch, device=self.device)

    @property
    def evaluated(self) -> nn.Module:
        """Return the network that is evaluated and kept: the moving average if the recipe asks for one.

        Under stochastic weight averaging it is the network itself until the mean is complete, after the last epoch.
        """
        if self.swa is not None and self.swa.is_complete:
            return self.swa.module
        return self.ema.module if self.ema is not None else self.net

    def random(self, purpose: str) -> torch.Generator:
        """Return a generator on the CPU for a callback's `purpose` at the present epoch and step.

        It is the same after a resume; in `begin`, the step is that at which the attempt starts.
        """
        return torch.Generator().manual_seed(stream(self.seed_of_draws, "callback", purpose, self.epoch, self.step))

    def lr(self, step: int) -> float:
        """Return the learning rate of `step`, in [0, steps_per_epoch), of the current epoch."""
        return rate_at(self.recipe, self.epoch * self.steps_per_epoch + step, self.steps_per_epoch)

    def tensors(self) -> list[Tensor]:
        """Return every tensor on the device that a step changes, in a fixed order, without copies."""
        networks = [self.net, *([self.ema.module] if self.ema is not None else [])]
        found = [tensor for net in networks for tensor in net.state_dict().values()]
        found += [value for state in self.optimizer.state.values() for value in state.values()]
        if self.lookahead is not None:
            found += self.lookahead.slow
        if self.scaler is not None:
            found += [self.scaler._scale, self.scaler._growth_tracker]
        found += [self.losses, self.norms]
        return [each.detach() for each in found if isinstance(each, Tensor) and each.device.type == self.device.type]

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint, without copying tensors: save them before the next step."""
        optimizer = self.optimizer.state_dict()
        if self.rate is not None:  # the number, not the tensor
            for group in optimizer["param_groups"]:
                group["lr"] = self.lr(self.step)
        return {
            "net": self.net.state_dict(),
            "optimizer": optimizer,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "lookahead": self.lookahead.state_dict() if self.lookahead else None,
            "ema": self.ema.state_dict() if self.ema else None,
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "losses": self.losses,
            "norms": self.norms,
            **({"swa": self.swa.state_dict()} if self.swa else {}),
            **({"callbacks": self.callbacks.state_dict()} if self.callbacks else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, whose tensors are on the CPU and are copied to their devices.

        A state on the GPU would put the step counters of Adam, AdamW and Adagrad there, which these would then read in
        every step for every parameter.
        """
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rate is not None:
            optimizer.bind(self.optimizer, self.rate)
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        if self.lookahead:
            self.lookahead.load_state_dict(state["lookahead"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        if self.swa:
            self.swa.load_state_dict(state["swa"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.losses.copy_(state["losses"])
        self.norms.copy_(state["norms"])
        if self.callbacks:
            self.callbacks.load_state_dict(state["callbacks"])


_COUNTERS = ("epoch", "step", "images_seen", "epoch_seconds", "seconds")

"""The training loop. It reads from top to bottom: `fit`, an epoch, a step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_lab.data import augment
from cifar_lab.data.split import Split
from cifar_lab.errors import Interrupted
from cifar_lab.recipe import Recipe
from cifar_lab.streams import stream
from cifar_lab.train import optim
from cifar_lab.train.average import Average
from cifar_lab.train.clip import clip
from cifar_lab.train.evaluate import evaluate
from cifar_lab.train.lookahead import Lookahead
from cifar_lab.train.precision import Precision, autocast
from cifar_lab.train.schedule import lr_at

LOOK_EVERY = 50
"""Steps between two looks at the losses: each look makes a GPU's queue run dry."""
SAVE_EVERY = 300.0
"""Seconds after which a long epoch is saved before its end."""


class Observer(Protocol):
    """Who is told how the training goes, and may end it."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """`step` of `steps` of `epoch` (from 1) is done. Called often; must be quick."""

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """`epoch` (from 1) is done, with these metrics; `saved` follows."""

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        """Keep `state`: `epoch` epochs and `step` steps of the next are done."""

    def wants_to_stop(self) -> bool:
        """Whether to save and leave before the next step."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended: after all its epochs, or at the first step (from 1) whose loss was not finite."""

    status: Literal["finished", "diverged"]
    epoch: int
    step: int | None = None


class Trainer:
    """Everything that changes while a recipe is trained, and can be saved and loaded at any step."""

    def __init__(self, recipe: Recipe, seed: int, net: nn.Module, split: Split, precision: Precision) -> None:
        self.recipe, self.seed, self.net, self.split, self.precision = recipe, seed, net, split, precision
        self.device = split.train.images.device
        self.forward: nn.Module = net
        self.parameters = list(net.parameters())
        self.optimizer = optim.build(net, recipe.optim)
        self.lookahead = Lookahead(self.parameters, recipe.optim.lookahead) if recipe.optim.lookahead.enabled else None
        self.ema = Average(net, recipe.train.ema) if recipe.train.ema else None
        self.steps_per_epoch = math.ceil(len(split.train) / recipe.train.batch_size)
        self.epoch, self.step, self.images_seen = 0, 0, 0
        self.epoch_seconds, self.seconds = 0.0, 0.0
        # One number a step of the running epoch, kept on the device so that no step waits to read it.
        self.losses = torch.zeros(self.steps_per_epoch, device=self.device)
        self.norms = torch.zeros(self.steps_per_epoch, device=self.device)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and kept: the moving average where the recipe asks for one."""
        return self.ema.module if self.ema is not None else self.net

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lookahead": self.lookahead.state_dict() if self.lookahead else None,
            "ema": self.ema.state_dict() if self.ema else None,
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "losses": self.losses,
            "norms": self.norms,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lookahead:
            self.lookahead.load_state_dict(state["lookahead"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.losses.copy_(state["losses"])
        self.norms.copy_(state["norms"])


_COUNTERS = ("epoch", "step", "images_seen", "epoch_seconds", "seconds")


def fit(run: Trainer, observer: Observer) -> Outcome:
    """Train from where `run` stands to the end of its recipe.

    The numbers depend on recipe, seed, images and execution alone: a run that was saved, killed and loaded ends with
    the same ones as one that was not disturbed.

    Raises:
        Interrupted: the observer wanted to stop; the state was saved.
    """
    while run.epoch < run.recipe.train.epochs:
        diverged_at = _train_epoch(run, observer)
        if diverged_at is not None:
            return Outcome("diverged", run.epoch + 1, diverged_at)
        values = _measure(run)
        run.epoch, run.step, run.epoch_seconds = run.epoch + 1, 0, 0.0
        observer.epoch(run.epoch, values)
        observer.saved(run.epoch, 0, run.state_dict())
    return Outcome("finished", run.epoch)


def _train_epoch(run: Trainer, observer: Observer) -> int | None:
    """Train what is left of the epoch; the step (from 1) at which the loss was not finite, if there was one."""
    run.net.train()
    draws = augment.draw(run.recipe.data, len(run.split.train), seed=run.seed, epoch=run.epoch, device=run.device)
    began = saved = time.monotonic()
    before = run.epoch_seconds
    while run.step < run.steps_per_epoch:
        _train_step(run, draws)
        run.step += 1
        now = time.monotonic()
        run.epoch_seconds = before + now - began
        observer.step(run.epoch + 1, run.step, run.steps_per_epoch)
        last = run.step == run.steps_per_epoch
        if last or run.step % LOOK_EVERY == 0:
            diverged_at = _first_not_finite(run.losses[: run.step])
            if diverged_at is not None:
                return diverged_at
        stopping = observer.wants_to_stop()
        if not last and (stopping or now - saved > SAVE_EVERY):
            observer.saved(run.epoch, run.step, run.state_dict())
            saved = now
            if stopping:
                raise Interrupted(f"stopped in epoch {run.epoch + 1} after step {run.step} of {run.steps_per_epoch}")
    run.seconds += run.epoch_seconds
    return None


def _train_step(run: Trainer, draws: augment.Draws) -> None:
    recipe, batch = run.recipe, run.recipe.train.batch_size
    rate = lr_at(
        recipe.schedule,
        recipe.optim.lr,
        step=run.epoch * run.steps_per_epoch + run.step,
        steps_per_epoch=run.steps_per_epoch,
        epochs=recipe.train.epochs,
    )
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    if recipe.model.dropout:
        torch.manual_seed(stream(run.seed, "dropout", run.epoch, run.step))

    here = draws[run.step * batch : (run.step + 1) * batch]
    images, labels = run.split.train.take(here.order)
    inputs, targets = augment.augment(images, labels, here, recipe.data)
    with autocast(run.precision, run.device):
        logits = run.forward(inputs)
    loss = F.cross_entropy(logits.float(), targets, label_smoothing=recipe.train.label_smoothing)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = clip(run.parameters, recipe.optim.clip)
    run.optimizer.step()
    if run.lookahead is not None:
        run.lookahead.step()
    if run.ema is not None:
        run.ema.step()
    run.losses[run.step], run.norms[run.step] = loss.detach(), norm
    run.images_seen += len(images)


def _measure(run: Trainer) -> dict[str, float]:
    """The metrics of the epoch that has just been trained; accuracies in [0, 1]."""
    recipe, name = run.recipe, run.split.watched_name
    clean = evaluate(run.evaluated, run.split.clean_train, recipe.data, run.precision)  # one view, in every epoch
    watched = evaluate(run.evaluated, run.split.watched, recipe.data, run.precision)
    return {
        "train/loss": run.losses.mean().item(),
        "clean_train/loss": clean.loss,
        "clean_train/acc": clean.accuracy,
        f"{name}/loss": watched.loss,
        f"{name}/acc": watched.accuracy,
        "lr": run.optimizer.param_groups[0]["lr"],
        "grad_norm": run.norms.mean().item(),
        "images_seen": float(run.images_seen),
        "images_per_second": len(run.split.train) / run.epoch_seconds,
        "seconds": run.seconds,
    }


def _first_not_finite(losses: Tensor) -> int | None:
    """Position (from 1) of the first loss that is NaN or infinite."""
    wrong = torch.nonzero(~losses.isfinite())
    return int(wrong[0].item()) + 1 if len(wrong) else None

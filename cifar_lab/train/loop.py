"""The training loop: `fit`, one epoch, and its metrics. A single step is in `train.step`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from cifar_lab.errors import Interrupted
from cifar_lab.train.evaluate import evaluate_network
from cifar_lab.train.metrics import measure_metrics
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

LOOK_EVERY = 50
"""Steps between two checks of the losses: each check drains a GPU's queue."""
SAVE_EVERY = 300.0
"""Seconds after which a long epoch is saved before its end."""
SAVING_SHARE = 0.02
"""Maximum share of time for checkpoints: with short epochs, not every one is saved."""


class TrainingObserver(Protocol):
    """Observer of a training, which may end it."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Handle the end of `step` of `steps` in `epoch` (from 1). Called often; must be quick."""

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Record the metrics of `epoch` (from 1); they become valid with the next `saved` or the end of training."""

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        """Save `state`, taken after `epoch` epochs and `step` steps of the next."""

    def wants_to_stop(self) -> bool:
        """Tell whether to save and stop before the next step."""


@dataclass(frozen=True)
class TrainingOutcome:
    """End of a training: after all epochs, or at the first step (from 1) with a non-finite loss."""

    status: Literal["finished", "diverged"]
    epoch: int
    step: int | None = None
    eager: str = ""
    """Reason why steps were taken eagerly although a CUDA graph was asked for; empty otherwise."""


class _Saver:
    """Saver of a training's checkpoints, which determines when one is due."""

    def __init__(self, trainer: Trainer, observer: TrainingObserver) -> None:
        self._trainer, self._observer = trainer, observer
        self._last, self._took = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Tell whether a checkpoint now would take at most `SAVING_SHARE` of the time since the last one."""
        return self._took <= SAVING_SHARE * self.since

    @property
    def since(self) -> float:
        """Return the seconds since the last checkpoint."""
        return time.monotonic() - self._last

    def save(self) -> None:
        began = time.monotonic()
        self._observer.saved(self._trainer.epoch, self._trainer.step, self._trainer.state_dict())
        self._last = time.monotonic()
        self._took = self._last - began


def fit(trainer: Trainer, observer: TrainingObserver) -> TrainingOutcome:
    """Train from the present state of `trainer` to the end of its recipe.

    The results depend only on recipe, seed, images and execution: a training that was saved, killed and resumed ends
    with the same numbers as an uninterrupted one. The state is saved after the first epoch and then as often as
    `SAVING_SHARE` allows, but not after the last epoch, as the result follows at once.

    Raises:
        Interrupted: the observer asked to stop; the state was saved.
    """
    stepper, saver = Stepper(trainer, graph=trainer.graph), _Saver(trainer, observer)
    try:
        with stepper.on_its_stream():
            trainer.callbacks.begin(trainer)
            began = time.monotonic()
            while trainer.epoch < trainer.recipe.train.epochs:
                diverged_at = _train_epoch(trainer, stepper, observer, saver)
                if diverged_at is not None:
                    return TrainingOutcome("diverged", trainer.epoch + 1, diverged_at, stepper.refused)
                is_last = trainer.epoch + 1 == trainer.recipe.train.epochs
                if trainer.swa is not None and is_last:
                    trainer.swa.complete(trainer.split, trainer.precision, trainer.seed_of_draws)
                values = _measure(trainer)
                if trainer.callbacks:
                    values |= trainer.callbacks.after_epoch(trainer)
                    if is_last:
                        trainer.callbacks.end(trainer)
                now = time.monotonic()
                values["epoch_seconds"], began = now - began, now  # includes evaluation and saving
                trainer.epoch, trainer.step, trainer.epoch_seconds = trainer.epoch + 1, 0, 0.0
                observer.epoch(trainer.epoch, values)
                if is_last:
                    break
                stopping = observer.wants_to_stop()
                if stopping or saver.is_due:
                    saver.save()
                if stopping:
                    raise Interrupted(f"stopped after epoch {trainer.epoch}")
    finally:
        stepper.close()
    return TrainingOutcome("finished", trainer.epoch, eager=stepper.refused)


def _train_epoch(trainer: Trainer, stepper: Stepper, observer: TrainingObserver, saver: _Saver) -> int | None:
    """Train the rest of the epoch; return the first step (from 1) with a non-finite loss, or None."""
    began, before = time.monotonic(), trainer.epoch_seconds
    stepper.begin_epoch()
    while trainer.step < trainer.steps_per_epoch:
        stepper.take()
        trainer.step += 1
        if trainer.swa is not None:
            trainer.swa.step(trainer.epoch * trainer.steps_per_epoch + trainer.step)
        observer.step(trainer.epoch + 1, trainer.step, trainer.steps_per_epoch)
        last = trainer.step == trainer.steps_per_epoch
        if last or trainer.step % LOOK_EVERY == 0:
            diverged_at = _first_not_finite(trainer.losses[: trainer.step])
            if diverged_at is not None:
                return diverged_at
        # A GPU works asynchronously: the elapsed time is correct only after a check, which waits for it.
        trainer.epoch_seconds = before + time.monotonic() - began
        stopping = observer.wants_to_stop()
        if not last and (stopping or saver.since > SAVE_EVERY):
            saver.save()
            if stopping:
                raise Interrupted(
                    f"stopped in epoch {trainer.epoch + 1} after step {trainer.step} of {trainer.steps_per_epoch}"
                )
    trainer.seconds += trainer.epoch_seconds
    return None


def _measure(trainer: Trainer) -> dict[str, float]:
    """Return the metrics of the epoch just trained; accuracies in [0, 1]."""
    recipe, name = trainer.recipe, trainer.split.watched_name
    clean = evaluate_network(
        trainer.evaluated, trainer.split.clean_train, recipe.data, trainer.precision
    )  # always with one view
    watched = evaluate_network(trainer.evaluated, trainer.split.watched, recipe.data, trainer.precision)
    norms = trainer.norms if trainer.scaler is None else trainer.norms[trainer.norms.isfinite()]
    values = {
        "train/loss": trainer.losses.mean().item(),
        "clean_train/loss": clean.loss,
        "clean_train/acc": clean.accuracy,
        f"{name}/loss": watched.loss,
        f"{name}/acc": watched.accuracy,
        "lr": trainer.lr(trainer.steps_per_epoch - 1),
        "grad_norm": norms.mean().item(),
        "images_seen": float(trainer.images_seen),
        "images_per_second": len(trainer.split.train) / trainer.epoch_seconds,
        "seconds": trainer.seconds,
    }
    values |= {f"{name}/{key}": value for key, value in measure_metrics(recipe.train.metrics, watched).items()}
    if trainer.scaler is not None:  # steps with an overflow in fp16 gradients, which the scaler skips
        values["skipped_steps"] = float(len(trainer.norms) - len(norms))
    return values


def _first_not_finite(losses: Tensor) -> int | None:
    """Return the position (from 1) of the first loss that is NaN or infinite, or None."""
    wrong = torch.nonzero(~losses.isfinite())
    return int(wrong[0].item()) + 1 if len(wrong) else None

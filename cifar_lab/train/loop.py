"""The training loop: `fit`, one epoch, and its metrics. A single step is in `train.step`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from cifar_lab.errors import Interrupted
from cifar_lab.train.evaluate import evaluate_network
from cifar_lab.train.registry import measure_metrics
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

    def __init__(self, run: Trainer, observer: TrainingObserver) -> None:
        self._run, self._observer = run, observer
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
        self._observer.saved(self._run.epoch, self._run.step, self._run.state_dict())
        self._last = time.monotonic()
        self._took = self._last - began


def fit(run: Trainer, observer: TrainingObserver) -> TrainingOutcome:
    """Train from the present state of `run` to the end of its recipe.

    The results depend only on recipe, seed, images and execution: a run that was saved, killed and resumed ends with
    the same numbers as an uninterrupted one. The state is saved after the first epoch and then as often as
    `SAVING_SHARE` allows, but not after the last epoch, as the result follows at once.

    Raises:
        Interrupted: the observer asked to stop; the state was saved.
    """
    stepper, saver = Stepper(run, graph=run.graph), _Saver(run, observer)
    try:
        with stepper.on_its_stream():
            run.callbacks.begin(run)
            began = time.monotonic()
            while run.epoch < run.recipe.train.epochs:
                diverged_at = _train_epoch(run, stepper, observer, saver)
                if diverged_at is not None:
                    return TrainingOutcome("diverged", run.epoch + 1, diverged_at, stepper.refused)
                is_last = run.epoch + 1 == run.recipe.train.epochs
                if run.swa is not None and is_last:
                    run.swa.complete(run.split, run.precision, run.seed_of_draws)
                values = _measure(run)
                if run.callbacks:
                    values |= run.callbacks.after_epoch(run)
                    if is_last:
                        run.callbacks.end(run)
                now = time.monotonic()
                values["epoch_seconds"], began = now - began, now  # includes evaluation and saving
                run.epoch, run.step, run.epoch_seconds = run.epoch + 1, 0, 0.0
                observer.epoch(run.epoch, values)
                if is_last:
                    break
                stopping = observer.wants_to_stop()
                if stopping or saver.is_due:
                    saver.save()
                if stopping:
                    raise Interrupted(f"stopped after epoch {run.epoch}")
    finally:
        stepper.close()
    return TrainingOutcome("finished", run.epoch, eager=stepper.refused)


def _train_epoch(run: Trainer, stepper: Stepper, observer: TrainingObserver, saver: _Saver) -> int | None:
    """Train the rest of the epoch; return the first step (from 1) with a non-finite loss, or None."""
    began, before = time.monotonic(), run.epoch_seconds
    stepper.begin_epoch()
    while run.step < run.steps_per_epoch:
        stepper.take()
        run.step += 1
        if run.swa is not None:
            run.swa.step(run.epoch * run.steps_per_epoch + run.step)
        observer.step(run.epoch + 1, run.step, run.steps_per_epoch)
        last = run.step == run.steps_per_epoch
        if last or run.step % LOOK_EVERY == 0:
            diverged_at = _first_not_finite(run.losses[: run.step])
            if diverged_at is not None:
                return diverged_at
        # A GPU works asynchronously: the elapsed time is correct only after a check, which waits for it.
        run.epoch_seconds = before + time.monotonic() - began
        stopping = observer.wants_to_stop()
        if not last and (stopping or saver.since > SAVE_EVERY):
            saver.save()
            if stopping:
                raise Interrupted(f"stopped in epoch {run.epoch + 1} after step {run.step} of {run.steps_per_epoch}")
    run.seconds += run.epoch_seconds
    return None


def _measure(run: Trainer) -> dict[str, float]:
    """Return the metrics of the epoch just trained; accuracies in [0, 1]."""
    recipe, name = run.recipe, run.split.watched_name
    clean = evaluate_network(run.evaluated, run.split.clean_train, recipe.data, run.precision)  # always with one view
    watched = evaluate_network(run.evaluated, run.split.watched, recipe.data, run.precision)
    norms = run.norms if run.scaler is None else run.norms[run.norms.isfinite()]
    values = {
        "train/loss": run.losses.mean().item(),
        "clean_train/loss": clean.loss,
        "clean_train/acc": clean.accuracy,
        f"{name}/loss": watched.loss,
        f"{name}/acc": watched.accuracy,
        "lr": run.lr(run.steps_per_epoch - 1),
        "grad_norm": norms.mean().item(),
        "images_seen": float(run.images_seen),
        "images_per_second": len(run.split.train) / run.epoch_seconds,
        "seconds": run.seconds,
    }
    values |= {f"{name}/{key}": value for key, value in measure_metrics(recipe.train.metrics, watched).items()}
    if run.scaler is not None:  # steps with an overflow in fp16 gradients, which the scaler skips
        values["skipped_steps"] = float(len(run.norms) - len(norms))
    return values


def _first_not_finite(losses: Tensor) -> int | None:
    """Return the position (from 1) of the first loss that is NaN or infinite, or None."""
    wrong = torch.nonzero(~losses.isfinite())
    return int(wrong[0].item()) + 1 if len(wrong) else None

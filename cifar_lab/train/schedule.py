"""The learning rate as a pure function of the position in training: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from cifar_lab.recipe import Schedule

_EDGE = 1e-9
"""Positions are quotients: 0.3 / 0.1 falls just short of 3, and no rate may change an epoch late for that."""


def factor(schedule: Schedule, progress: float) -> float:
    """What the learning rate is multiplied by at `progress`, in [0, 1), of the schedule: in [0, 1].

    With fractions where torch counts epochs, `cosine` is torch's `CosineAnnealingLR(T_max=epochs)`, `linear` its
    `LinearLR(1, 0, epochs)`, `step` its `StepLR`, `multistep` its `MultiStepLR` and `warm_restarts` its
    `CosineAnnealingWarmRestarts`.

    `one_cycle` is its `OneCycleLR(anneal_strategy="cos")` but for the convention of steps: torch's peak is at
    step rise * steps - 1 and its end at the last step; here they are at `rise` and at 1, just behind it.
    """
    match schedule.name:
        case "constant":
            return 1.0
        case "cosine":
            return _fall(progress)
        case "linear":
            return 1 - progress
        case "step":
            return schedule.gamma ** _whole(progress / schedule.step_size)
        case "multistep":
            return schedule.gamma ** sum(progress > milestone - _EDGE for milestone in schedule.milestones)
        case "one_cycle":
            return _one_cycle(progress, schedule.rise, schedule.start_div, schedule.final_div)
        case "warm_restarts":
            return _warm_restarts(progress, schedule.period, schedule.period_growth)


def lr_at(schedule: Schedule, lr: float, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The learning rate of `step`, in [0, steps_per_epoch * epochs), for a recipe with `lr`.

    The first n = warmup * steps rise by 1/n each to the rate that the schedule begins with, whatever `every`
    says. The schedule runs over what remains, and moves at each step, or at the first step of each epoch.
    """
    steps = steps_per_epoch * epochs
    warm = round(schedule.warmup * steps)
    if step < warm:
        return lr * factor(schedule, 0.0) * (step + 1) / warm
    moved = step if schedule.every == "step" else step - step % steps_per_epoch
    return lr * factor(schedule, max(0, moved - warm) / (steps - warm))


def _fall(progress: float) -> float:
    """Half a cosine: from 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2


def _whole(quotient: float) -> int:
    return math.floor(quotient + _EDGE)


def _one_cycle(progress: float, rise: float, start_div: float, final_div: float) -> float:
    """Up from 1/start_div to 1 at `rise`, down to 1/(start_div * final_div) at 1 (Smith and Topin, 2018)."""
    start = 1 / start_div
    if progress < rise:
        return 1 + (start - 1) * _fall(progress / rise)
    end = start / final_div
    return end + (1 - end) * _fall((progress - rise) / (1 - rise))


def _warm_restarts(progress: float, period: float, growth: int) -> float:
    """Cosines in a row, each `growth` times as long as the one before (Loshchilov and Hutter, 2017)."""
    if growth == 1:
        begun, length = _whole(progress / period) * period, period
    else:  # m cosines together are (growth**m - 1) / (growth - 1) periods long
        done = _whole(math.log(1 + progress / period * (growth - 1), growth))
        begun, length = period * (growth**done - 1) / (growth - 1), period * growth**done
    return _fall((progress - begun) / length)

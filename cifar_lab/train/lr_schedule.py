"""Learning rate as a pure function of the position in training, without state.

The factory of a user's schedule, `module:function`, returns a function from the progress of training, in [0, 1), to a
factor of the learning rate.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache

from cifar_lab.config.built_in_names import SCHEDULES
from cifar_lab.config.recipe import Recipe, ScheduleConfig
from cifar_lab.errors import CellError
from cifar_lab.extension import Options, build_function

_EDGE = 1e-9
"""Tolerance of positions, which are quotients: 0.3 / 0.1 is slightly less than 3, which must not delay a change."""


def factor(schedule: ScheduleConfig, progress: float) -> float:
    """Return the factor of the learning rate at `progress`, in [0, 1), of the schedule; in [0, 1] if it is built in.

    With fractions instead of torch's epochs, `cosine` is torch's `CosineAnnealingLR(T_max=epochs)`, `linear` its
    `LinearLR(1, 0, epochs)`, `step` its `StepLR`, `multistep` its `MultiStepLR` and `warm_restarts` its
    `CosineAnnealingWarmRestarts`.

    `one_cycle` is its `OneCycleLR(anneal_strategy="cos")` with another convention for steps: torch's peak is at step
    rise * steps - 1 and its end at the last step; here they are at `rise` and at 1, one step after the last.
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
    return schedule_factor(schedule.name, Options(schedule.options), progress)


def schedule_factor(name: str, options: Options, progress: float) -> float:
    """Return the factor of the learning rate of a user's schedule at `progress`, in [0, 1).

    Raises:
        CellError: it is not a finite number of at least 0.
    """
    value = float(_users_schedule(name, Options(options))(progress))
    if not (math.isfinite(value) and value >= 0):
        raise CellError(f"schedule.name={name}: its factor at {progress:g} is {value}, not a finite number from 0 up")
    return value


def lr_at(schedule: ScheduleConfig, lr: float, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the learning rate of `step`, in [0, steps_per_epoch * epochs), for a recipe with `lr`.

    In the first n = warmup * steps it rises by 1/n per step to the schedule's initial rate, whatever `every` is. The
    schedule covers the remaining steps, and changes at each step, or at the first step of each epoch.
    """
    steps = steps_per_epoch * epochs
    warm = round(schedule.warmup * steps)
    if step < warm:
        return lr * factor(schedule, 0.0) * (step + 1) / warm
    moved = step if schedule.every == "step" else step - step % steps_per_epoch
    return lr * factor(schedule, max(0, moved - warm) / (steps - warm))


def rate_at(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of `step`, in [0, steps_per_epoch * epochs), of a training.

    It is that of the schedule, and under stochastic weight averaging, from `train.swa.start` on, a constant rate, or
    one that falls linearly in each cycle, to `final` of its first value in the last step.
    """
    swa, first = recipe.train.swa, _averaged_from(recipe, steps_per_epoch)
    if not swa.enabled or step < first:
        return _scheduled(recipe, step, steps_per_epoch)
    high = _scheduled(recipe, first, steps_per_epoch) if swa.rate is None else swa.rate * recipe.optim.lr
    if swa.schedule == "constant":
        return high
    ends = (first, *_ends_of_cycles(swa.cycle, first, steps_per_epoch * recipe.train.epochs))
    cycle = bisect_right(ends, step)
    length = ends[cycle] - ends[cycle - 1]
    return high * (1 - (1 - swa.final) * (step - ends[cycle - 1]) / max(1, length - 1))


def averaged_after(recipe: Recipe, steps_per_epoch: int) -> tuple[int, ...]:
    """Return the numbers of steps after which stochastic weight averaging takes the weights; the last is the end."""
    first, steps = _averaged_from(recipe, steps_per_epoch), steps_per_epoch * recipe.train.epochs
    if recipe.train.swa.schedule == "constant":
        return tuple(end for end in range(steps_per_epoch, steps + 1, steps_per_epoch) if end > first)
    return _ends_of_cycles(recipe.train.swa.cycle, first, steps)


def _scheduled(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    return lr_at(
        recipe.schedule, recipe.optim.lr, step=step, steps_per_epoch=steps_per_epoch, epochs=recipe.train.epochs
    )


def _averaged_from(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the first step, from 0, of the part in which weights are averaged; it has one step at least."""
    steps = steps_per_epoch * recipe.train.epochs
    return min(steps - 1, round(recipe.train.swa.start * steps))


@lru_cache(maxsize=64)
def _ends_of_cycles(cycle: float, first: int, steps: int) -> tuple[int, ...]:
    """Return the numbers of steps after which cycles end: equal parts of the steps from `first` on.

    Their length is as near to `cycle`, a fraction of the training, as whole cycles can be.
    """
    left = steps - first
    cycles = min(left, max(1, round(left / (cycle * steps))))
    return tuple(first + round(left * number / cycles) for number in range(1, cycles + 1))


@lru_cache(maxsize=64)
def _users_schedule(name: str, options: Options) -> Callable[[float], float]:
    return build_function("schedule.name=", SCHEDULES.group, name, options)  # type: ignore[no-any-return]


def _fall(progress: float) -> float:
    """Return half a cosine: from 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2


def _whole(quotient: float) -> int:
    return math.floor(quotient + _EDGE)


def _one_cycle(progress: float, rise: float, start_div: float, final_div: float) -> float:
    """Rise from 1/start_div to 1 at `rise`, then fall to 1/(start_div * final_div) at 1 (Smith and Topin, 2018)."""
    start = 1 / start_div
    if progress < rise:
        return 1 + (start - 1) * _fall(progress / rise)
    end = start / final_div
    return end + (1 - end) * _fall((progress - rise) / (1 - rise))


def _warm_restarts(progress: float, period: float, growth: int) -> float:
    """Return consecutive cosines, each `growth` times as long as the one before (Loshchilov and Hutter, 2017)."""
    if growth == 1:
        begun, length = _whole(progress / period) * period, period
    else:  # m cosines have a total length of (growth**m - 1) / (growth - 1) periods
        done = _whole(math.log(1 + progress / period * (growth - 1), growth))
        begun, length = period * (growth**done - 1) / (growth - 1), period * growth**done
    return _fall((progress - begun) / length)

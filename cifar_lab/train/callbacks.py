"""Callbacks: code of users that acts on a training at fixed points, and whose state is part of the checkpoint.

A callback is a subclass of `Callback` that overrides what it needs. A recipe names it in `train.callbacks`.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cifar_lab import extension
from cifar_lab.config.built_in_names import CALLBACKS
from cifar_lab.config.recipe import CallbackConfig
from cifar_lab.errors import CellError, RecipeError, nearest, shortened

if TYPE_CHECKING:
    from cifar_lab.train.trainer import Trainer


NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""Form of a metric's name."""


class Callback:
    """Base of callbacks, which does nothing at any point.

    `trainer` is the training: `trainer.net`, `trainer.optimizer`, `trainer.parameters`, `trainer.split`,
    `trainer.recipe`, and its position, `trainer.epoch` and `trainer.step`, both from 0. A callback may change weights
    and gradients; the numbers of a cell must depend on the recipe and the seed alone. So it draws random numbers from
    `trainer.random(purpose)`, keeps in `state_dict` what it needs after a resume, and leaves torch's global generator
    alone.

    One that overrides `after_backward` or `after_step` has all steps taken eagerly: they are neither replayed as a CUDA
    graph nor compiled.
    """

    def begin(self, trainer: Trainer) -> None:
        """Prepare for training from the present position; called at each attempt, after `load_state_dict`."""

    def after_backward(self, trainer: Trainer) -> None:
        """Act on the gradients of the step `trainer.step`, in `parameter.grad`, before they are clipped."""

    def after_step(self, trainer: Trainer) -> None:
        """Act after the optimizer's update of the step `trainer.step`, and those of the averages."""

    def after_epoch(self, trainer: Trainer) -> Mapping[str, float] | None:
        """Act after the epoch `trainer.epoch` and its evaluation; return metrics for the journal, by name."""

    def end(self, trainer: Trainer) -> None:
        """Act after the last epoch, before the test images are evaluated; called once, if the training finishes."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs: tensors, numbers, strings, and lists and dicts of these."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned; its tensors are on the CPU and may be kept."""


HOOKS = tuple(name for name in vars(Callback) if not name.startswith("_"))
"""Methods that a training calls."""
LIKE_A_HOOK, ALIKE, LONG_ENOUGH = re.compile(r"(on|before|after)_"), 0.85, 5
"""Begin of names that are hooks in training frameworks, similarity of a misspelt hook (`difflib`), and the minimum
length of a hook that is looked for so: `send` is not a misspelt `end`."""


class Callbacks:
    """The callbacks of a recipe, called in its order.

    Attributes:
        after_each_backward, after_each_step: those that act in each step; empty for most trainings.
    """

    def __init__(self, named: Sequence[CallbackConfig]) -> None:
        """Build them.

        Raises:
            RecipeError: an option does not fit, or a factory does not return a `Callback`.
        """
        self._all = {each.key: _built(each) for each in named}
        self.after_each_backward = [each for each in self._all.items() if _overrides(each[1], "after_backward")]
        self.after_each_step = [each for each in self._all.items() if _overrides(each[1], "after_step")]

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def why_eager(self) -> str:
        """Return the reason why steps are eager: the callbacks that act in each; empty if there are none."""
        names = dict.fromkeys(name for name, _ in (*self.after_each_backward, *self.after_each_step))
        return f"train.callbacks: each step calls {', '.join(names)}" if names else ""

    def begin(self, trainer: Trainer) -> None:
        """Call `begin` of each."""
        for callback in self._all.values():
            callback.begin(trainer)

    def after_backward(self, trainer: Trainer) -> None:
        """Call `after_backward` of those that have one."""
        for _, callback in self.after_each_backward:
            callback.after_backward(trainer)

    def after_step(self, trainer: Trainer) -> None:
        """Call `after_step` of those that have one."""
        for _, callback in self.after_each_step:
            callback.after_step(trainer)

    def after_epoch(self, trainer: Trainer) -> dict[str, float]:
        """Call `after_epoch` of each, and return the metrics as `key/name`.

        Raises:
            CellError: a metric is not a finite number, or has a name that MLflow does not take.
        """
        values: dict[str, float] = {}
        for key, callback in self._all.items():
            for name, value in (callback.after_epoch(trainer) or {}).items():
                if not NAME.fullmatch(name):
                    raise CellError(f"train.callbacks: {key} returns '{name}'; a name has letters, digits, _ - . and /")
                values[f"{key}/{name}"] = _number(key, name, value)
        return values

    def end(self, trainer: Trainer) -> None:
        """Call `end` of each."""
        for callback in self._all.values():
            callback.end(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each by its key.

        Raises:
            CellError: a state holds something that a checkpoint does not.
        """
        states = {key: callback.state_dict() for key, callback in self._all.items()}
        for key, state in states.items():
            if (alien := _alien(state)) is not None:
                raise CellError(
                    f"train.callbacks: the state of {key} holds {type(alien).__name__}; "
                    "a checkpoint holds tensors, numbers, strings, and lists and dicts of these"
                )
        return states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        for key, callback in self._all.items():
            callback.load_state_dict(state[key])


def require_callback(named: CallbackConfig) -> None:
    """Check a callback before the training; a class is not constructed, another factory is called.

    Raises:
        RecipeError: it is no `Callback`, or has a method that reads like a hook and is none.
    """
    factory = extension.load_extension(CALLBACKS.group, named.name).factory
    if inspect.isclass(factory):
        _require_hooks(named.name, factory)
    else:
        _built(named)


def _built(named: CallbackConfig) -> Callback:
    made = extension.build(CALLBACKS.group, named.name, named.options)
    _require_hooks(named.name, type(made))
    return made  # type: ignore[no-any-return]


def _require_hooks(name: str, kind: type) -> None:
    """Check that `kind` is a `Callback` whose public methods are hooks, or do not read like one.

    A method that a base from elsewhere has, too, is that base's: one class may serve two frameworks.
    """
    if not issubclass(kind, Callback):
        raise RecipeError(
            f"train.callbacks: {name}: its factory returns {kind.__name__}, not a cifar_lab.train.callbacks.Callback"
        )
    theirs = {each for base in kind.__mro__ if not issubclass(base, Callback) for each in vars(base)}
    for base in kind.__mro__:
        for method, value in vars(base).items() if issubclass(base, Callback) else ():
            if callable(value) and _is_like_a_hook(method) and method not in {*HOOKS, *theirs}:
                raise RecipeError(
                    f"train.callbacks: {name}: '{method}' is no hook: no training calls it{nearest(method, HOOKS)} "
                    "(the name of a method of your own begins with _)"
                )


def _is_like_a_hook(method: str) -> bool:
    if method.startswith("_"):
        return False
    long = [hook for hook in HOOKS if len(hook) >= LONG_ENOUGH]
    return bool(LIKE_A_HOOK.match(method) or difflib.get_close_matches(method.lower(), long, n=1, cutoff=ALIKE))


def _number(key: str, name: str, value: object) -> float:
    """Return a metric as a number; a tensor of one element is one."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # the last of a tensor of several elements
        number = math.nan
    if not math.isfinite(number):
        raise CellError(f"train.callbacks: {key} returns {name}={shortened(repr(value))}, not a finite number")
    return number


def _overrides(callback: Callback, hook: str) -> bool:
    """Tell whether a callback has a hook of its own, of its class or set on the object."""
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)


def _alien(state: object) -> object | None:
    """Return the first part of a state that a checkpoint cannot hold; None if there is none."""
    if isinstance(state, dict):
        return next((bad for pair in state.items() for each in pair if (bad := _alien(each)) is not None), None)
    if isinstance(state, (list, tuple)):
        return next((bad for each in state if (bad := _alien(each)) is not None), None)
    return None if state is None or isinstance(state, (Tensor, bool, int, float, str)) else state

"""Dimensions of a search: a recipe path, or several together, with the allowed values.

A dimension is one parameter of an Optuna trial. Optuna stores numbers, strings and booleans, so a tuple is stored as a
label: `(4, 4, 3)` is "[4,4,3]", and `None` is "none".
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from cifar_lab.config.declarative import DeclarativeModel
from cifar_lab.config.overrides import as_typed
from cifar_lab.errors import CifarLabError, SpaceError

Parameter = bool | int | float | str
"""Value of a dimension in a trial."""
Taken = Mapping[str, Parameter]
"""Parameters of a trial, by name of the dimension."""
Number = Annotated[float, Field(strict=True)]
MOST = 100
"""Maximum number of options of a choice: all pairs of options are checked when a space is created."""
DIGITS = 12
"""Significant digits of a scaled value: 0.3 × 0.1 is 0.03."""


class Suggester(Protocol):
    """Methods of an Optuna trial that dimensions use."""

    def suggest_categorical(self, name: str, choices: Sequence[Parameter], /) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, /, *, step: int, log: bool) -> int: ...
    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool) -> float: ...


def label(value: object) -> Parameter:
    """Convert a recipe's value to one that Optuna can store."""
    if isinstance(value, bool | int | float | str):
        return value
    return as_typed(value)


class Dimension(DeclarativeModel):
    """One parameter of a trial.

    Raises:
        SpaceError: fewer than two values, a repeated value, a reversed range, or a logarithm of a value ≤ 0.
    """

    error: ClassVar[type[CifarLabError]] = SpaceError
    name: str = ""
    """Name of the trial's parameter; the path if empty."""
    when: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Conditions: it is suggested only if these dimensions, declared before it, have one of these values; otherwise the
    baseline's value is kept."""

    @model_validator(mode="before")
    @classmethod
    def _is_named_by_its_path(cls, fields: Any) -> Any:
        return {"name": fields["path"], **fields} if isinstance(fields.get("path"), str) else fields

    @model_validator(mode="after")
    def _holds_values(self) -> Self:
        problem = self.problem() if self.name else "it has no name"
        if problem:
            raise SpaceError(f"dimension '{self.name}': {problem}")
        return self

    @property
    def conditions(self) -> dict[str, tuple[Parameter, ...]]:
        """`when` with labels instead of values."""
        return {name: tuple(map(label, values)) for name, values in self.when.items()}

    def is_on(self, taken: Taken) -> bool:
        """Tell whether it is suggested to a trial with the parameters `taken` of the dimensions before it."""
        return all(name in taken and taken[name] in allowed for name, allowed in self.conditions.items())

    @property
    def units(self) -> dict[str, dict[Parameter, float]]:
        """Factors of the parameter, by an earlier dimension and its label."""
        return {}

    @property
    def needs(self) -> dict[str, tuple[Parameter, ...]]:
        """Return the allowed labels of the other dimensions that it depends on."""
        return {name: tuple(by) for name, by in self.units.items()} | self.conditions

    @abstractmethod
    def paths(self) -> tuple[str, ...]:
        """Recipe paths that it sets."""

    @property
    def labels(self) -> tuple[Parameter, ...]:
        """Labels of a choice; empty for a range."""
        return ()

    @property
    @abstractmethod
    def words(self) -> str:
        """Description of its values for a table: `sgd, adam`; `16 to 96 by 8`; `0.1 to 10, log`."""

    @abstractmethod
    def problem(self) -> str | None:
        """Return what is wrong with its values; None if they are valid."""

    @abstractmethod
    def suggest(self, trial: Suggester) -> Parameter: ...

    @abstractmethod
    def __contains__(self, parameter: object) -> bool: ...

    @abstractmethod
    def diff(self, parameter: Parameter, taken: Taken) -> dict[str, Any]:
        """Convert `parameter` to recipe values by path; `taken` has the parameters before it."""

    @abstractmethod
    def candidates(self, values: Mapping[str, Any], taken: Taken) -> Sequence[Parameter]:
        """Return the parameters that may give `values` (of `Recipe.flat`), to be tried."""

    @abstractmethod
    def samples(self) -> Sequence[Parameter]:
        """Return all options, or the ends and an inner value of a range: a recipe must accept each of them."""


class _Options(Dimension):
    """Choice among a few options."""

    @property
    @abstractmethod
    def by_label(self) -> dict[Parameter, dict[str, Any]]:
        """Recipe values by path, by option."""

    @property
    def labels(self) -> tuple[Parameter, ...]:
        return tuple(self.by_label)

    @property
    def words(self) -> str:
        return ", ".join(map(str, self.labels))

    def suggest(self, trial: Suggester) -> Parameter:
        taken: Parameter = trial.suggest_categorical(self.name, self.labels)
        return taken

    def __contains__(self, parameter: object) -> bool:
        return parameter in self.labels

    def diff(self, parameter: Parameter, taken: Taken) -> dict[str, Any]:  # noqa: ARG002 (a range may need it)
        return dict(self.by_label[parameter])

    def candidates(self, values: Mapping[str, Any], taken: Taken) -> Sequence[Parameter]:  # noqa: ARG002
        return self.labels

    def samples(self) -> Sequence[Parameter]:
        return self.labels


class Choice(_Options):
    """Choice among a few values of a path."""

    path: str
    values: tuple[Any, ...]

    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def by_label(self) -> dict[Parameter, dict[str, Any]]:
        return {label(value): {self.path: value} for value in self.values}

    def problem(self) -> str | None:
        if len(self.values) < 2:
            return f"values={list(self.values)!r:.80} leaves nothing to search; it takes two or more"
        if len(self.values) > MOST:
            return f"{len(self.values):,} values; it takes {MOST} at most, a range takes more"
        labels = [label(value) for value in self.values]
        twice = next((name for i, name in enumerate(labels) if name in labels[:i]), None)
        return f"value {twice} is there twice" if twice is not None else None


class Bundle(_Options):
    """Choice among a few named diffs, which set several paths together."""

    options: dict[str, dict[str, Any]]

    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for diff in self.options.values() for path in diff))

    @property
    def by_label(self) -> dict[Parameter, dict[str, Any]]:
        return dict(self.options.items())

    def problem(self) -> str | None:
        if len(self.options) < 2:
            return f"options={list(self.options)!r:.80} leaves nothing to search; it takes two or more"
        if len(self.options) > MOST:
            return f"{len(self.options):,} options; it takes {MOST} at most"
        return None if self.paths() else "its options set no path"


class Integer(Dimension):
    """Integer from `low` to `high`, both included."""

    path: str
    low: StrictInt
    high: StrictInt
    log: StrictBool = False
    step: Annotated[StrictInt, Field(ge=1)] = 1

    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def words(self) -> str:
        by = f" by {self.step}" if self.step > 1 else ""
        return f"{self.low} to {self.high}{by}{', log' if self.log else ''}"

    def problem(self) -> str | None:
        problem = _of_range(self.low, self.high, log=self.log)
        if problem:
            return problem
        off = (self.high - self.low) % self.step
        if off:
            return f"high={self.high} is not reached from low={self.low} by step={self.step}; take {self.high - off}"
        return f"log and step={self.step} exclude one another" if self.log and self.step > 1 else None

    def suggest(self, trial: Suggester) -> Parameter:
        return trial.suggest_int(self.name, self.low, self.high, step=self.step, log=self.log)

    def __contains__(self, parameter: object) -> bool:
        if not isinstance(parameter, int) or isinstance(parameter, bool):
            return False
        return self.low <= parameter <= self.high and (parameter - self.low) % self.step == 0

    def diff(self, parameter: Parameter, taken: Taken) -> dict[str, Any]:  # noqa: ARG002 (`Real` needs it)
        return {self.path: parameter}

    def candidates(self, values: Mapping[str, Any], taken: Taken) -> Sequence[Parameter]:  # noqa: ARG002
        value = values[self.path]
        if not isinstance(value, int | float):
            return ()
        steps = round((min(max(value, self.low), self.high) - self.low) / self.step)
        return (self.low + steps * self.step,)

    def samples(self) -> Sequence[Parameter]:
        return sorted({self.low, self.low + self.step, self.high})


class Real(Dimension):
    """Number from `low` to `high`, in units that may depend on other dimensions."""

    path: str
    low: Number
    high: Number
    log: StrictBool = False
    unit: dict[str, dict[Any, Annotated[float, Field(gt=0, strict=True)]]] = Field(default_factory=dict)
    """Factors of the parameter, by an earlier dimension and its value: a learning rate in multiples of the optimizer's
    usual one is a single dimension, which every sampler can learn."""

    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def units(self) -> dict[str, dict[Parameter, float]]:
        return {name: {label(value): unit for value, unit in by.items()} for name, by in self.unit.items()}

    @property
    def words(self) -> str:
        times = f", × a unit by {' and '.join(self.unit)}" if self.unit else ""
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}{times}"

    def problem(self) -> str | None:
        return _of_range(self.low, self.high, log=self.log)

    def suggest(self, trial: Suggester) -> Parameter:
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def __contains__(self, parameter: object) -> bool:
        return (
            isinstance(parameter, int | float)
            and not isinstance(parameter, bool)
            and (self.low <= parameter <= self.high)
        )

    def diff(self, parameter: Parameter, taken: Taken) -> dict[str, Any]:
        assert not isinstance(parameter, str), "a range holds numbers"
        return {self.path: _rounded(parameter * self._times(taken)) if self.unit else parameter}

    def candidates(self, values: Mapping[str, Any], taken: Taken) -> Sequence[Parameter]:
        value = values[self.path]
        if not isinstance(value, int | float):
            return ()
        exact = value / self._times(taken)
        return tuple(min(max(number, self.low), self.high) for number in (_rounded(exact), exact))

    def samples(self) -> Sequence[Parameter]:
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return (self.low, middle, self.high)

    def _times(self, taken: Taken) -> float:
        return math.prod(by[taken[name]] for name, by in self.units.items())


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _of_range(low: float, high: float, *, log: bool) -> str | None:
    if low == high:
        return f"low and high are both {low:g}, which leaves nothing to search"
    if low > high:
        return f"low={low:g} is above high={high:g}"
    return f"log needs a range above 0, got low={low:g}" if log and low <= 0 else None


@dataclass(frozen=True)
class RandomTrial:
    """Draws each parameter uniformly (on a log scale if requested), and keeps the values in `params`."""

    random: random.Random
    params: dict[str, Parameter] = field(default_factory=dict)

    def suggest_categorical(self, name: str, choices: Sequence[Parameter], /) -> Parameter:
        self.params[name] = self.random.choice(choices)
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int:
        if log:  # each integer gets the interval within 0.5
            drawn = round(math.exp(self.random.uniform(math.log(low - 0.5), math.log(high + 0.5))))
            drawn = min(max(drawn, low), high)
        else:
            drawn = self.random.randrange(low, high + 1, step)
        self.params[name] = drawn
        return drawn

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool = False) -> float:
        drawn = math.exp(self.random.uniform(math.log(low), math.log(high))) if log else self.random.uniform(low, high)
        drawn = min(max(drawn, low), high)
        self.params[name] = drawn
        return drawn

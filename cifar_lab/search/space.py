"""Search spaces: a baseline recipe, and the dimensions along which candidates may differ from it.

A space is data, as an ablation is. It is validated when created, so that a file that imports can be searched.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from pydantic import InstanceOf, model_validator

from cifar_lab.config.declarative import DeclarativeModel
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import CifarLabError, RecipeError, SpaceError, nearest
from cifar_lab.search.dimension import Dimension, Parameter, Suggester, Taken


class Space(DeclarativeModel):
    """Search space: a baseline with dimensions.

    Raises:
        SpaceError: a path that no recipe has or that two dimensions set, a value that the recipe rejects (alone, or
            with a value of another dimension), options that give the same recipe, a condition on a dimension not
            declared before, or a unit that lacks a value.
    """

    error: ClassVar[type[CifarLabError]] = SpaceError
    name: str = ""
    """Name of its file; set by `find_space`."""
    question: str
    baseline: Recipe
    dimensions: tuple[InstanceOf[Dimension], ...]

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if not self.dimensions:
            raise SpaceError("a space has one dimension or more")
        self.require_distinct("dimension", [dimension.name for dimension in self.dimensions])
        self._check_paths()
        for i, dimension in enumerate(self.dimensions):
            self._check_needs(dimension, {earlier.name: earlier for earlier in self.dimensions[:i]})
        for dimension in self.dimensions:
            self._check_values(dimension)
        for one, other in itertools.combinations(self.dimensions, 2):
            if _parts(one) & _parts(other):
                self._check_together(one, other)
        return self

    def paths(self) -> tuple[str, ...]:
        """Every recipe path that is searched."""
        return tuple(path for dimension in self.dimensions for path in dimension.paths())

    def suggest(self, trial: Suggester) -> dict[str, Any]:
        """Return the diff on the baseline suggested by an Optuna trial, or an object with its interface."""
        return self._diff(self._taken(lambda dimension, _: dimension.suggest(trial)))

    def diff_of(self, params: Mapping[str, Parameter]) -> dict[str, Any]:
        """Return the diff on the baseline of a trial with these parameters.

        Raises:
            SpaceError: a parameter is missing, unknown, not suggested beside the others, or out of its range.
        """
        taken = self._taken(lambda dimension, _: _given(dimension, params))
        for name in params:
            if name not in taken:
                known = [dimension.name for dimension in self.dimensions]
                why = "its condition is not met" if name in known else f"no such dimension{nearest(name, known)}"
                raise SpaceError(f"parameter '{name}': {why}")
        return self._diff(taken)

    def params_of(self, recipe: Recipe) -> dict[str, Parameter] | None:
        """Return the parameters of a trial that trains `recipe`; None if it is outside of the space."""
        taken: dict[str, Parameter] = {}
        for dimension in self.dimensions:
            if dimension.is_on(taken):
                parameter = self._parameter_of(recipe, dimension, taken)
                if parameter is None:
                    return None
                taken[dimension.name] = parameter
        found = self.baseline.override(self._diff(taken))
        return taken if found.digest() == recipe.digest() else None

    def digest(self) -> str:
        """Return the SHA-256 of all that determines the candidates: spaces with one digest have the same trials."""
        dimensions = [[type(dimension).__name__, dimension.model_dump(mode="json")] for dimension in self.dimensions]
        tree = {"baseline": self.baseline.flat(), "dimensions": dimensions}  # an option may use what is inactive now
        return hashlib.sha256(json.dumps(tree, separators=(",", ":")).encode()).hexdigest()

    def _taken(self, take: Callable[[Dimension, Taken], Parameter]) -> dict[str, Parameter]:
        """Call `take` for each active dimension, with the values of those before it; return the values by name."""
        taken: dict[str, Parameter] = {}
        for dimension in self.dimensions:
            if dimension.is_on(taken):
                taken[dimension.name] = take(dimension, taken)
        return taken

    def _diff(self, taken: Taken) -> dict[str, Any]:
        chosen = [dimension for dimension in self.dimensions if dimension.name in taken]
        return {p: v for dimension in chosen for p, v in dimension.diff(taken[dimension.name], taken).items()}

    def _parameter_of(self, recipe: Recipe, dimension: Dimension, taken: Taken) -> Parameter | None:
        """Return the parameter that may be set on `recipe` without changing what it trains."""
        values, defaults = recipe.flat(), self.baseline.flat()
        for parameter in dimension.candidates(values, taken):
            diff = {path: defaults[path] for path in dimension.paths()} | dimension.diff(parameter, taken)
            with contextlib.suppress(RecipeError):
                if recipe.override(diff).digest() == recipe.digest():
                    return parameter
        return None

    def _check_paths(self) -> None:
        owners: dict[str, str] = {}
        for dimension in self.dimensions:
            for path in dimension.paths():
                if path in owners:
                    raise SpaceError(f"'{path}' is in two dimensions, '{owners[path]}' and '{dimension.name}'")
                owners[path] = dimension.name

    def _check_needs(self, dimension: Dimension, earlier: Mapping[str, Dimension]) -> None:
        """Check that conditions and units refer to choices declared before, and to their values."""
        for name, allowed in dimension.conditions.items():
            said = f"dimension '{dimension.name}' depends on '{name}'"
            _require_labels(said, name, allowed, earlier)
            if not allowed:
                raise SpaceError(f"{said}, and names no value of it")
        for name, units in dimension.units.items():
            said = f"dimension '{dimension.name}' has a unit by '{name}'"
            _require_labels(said, name, units, earlier)
            if earlier[name].when and name not in dimension.when:
                raise SpaceError(f"{said}, which is not always suggested")
            for value in dimension.conditions.get(name, earlier[name].labels):
                if value not in units:
                    raise SpaceError(f"{said}, but none for {value}")

    def _check_values(self, dimension: Dimension) -> None:
        made: dict[str, Parameter] = {}
        for parameter in dimension.samples():
            recipe = self._tried(f"dimension '{dimension.name}'", (dimension, parameter))
            assert recipe is not None, "one dimension excludes nothing"
            text = json.dumps(recipe.flat())
            if text in made:
                raise SpaceError(f"dimension '{dimension.name}': {made[text]} and {parameter} come to the same recipe")
            made[text] = parameter

    def _check_together(self, one: Dimension, other: Dimension) -> None:
        said = f"dimensions '{one.name}' and '{other.name}' do not go together"
        for first, second in itertools.product(one.samples(), other.samples()):
            self._tried(said, (one, first), (other, second))

    def _tried(self, said: str, *pins: tuple[Dimension, Parameter]) -> Recipe | None:
        """Return the baseline with fixed parameters, and with what these require; None if they exclude one another."""
        taken = {dimension.name: parameter for dimension, parameter in pins}
        needed: dict[str, list[Parameter]] = {}
        waiting = [dimension for dimension, _ in pins]
        for dimension in waiting:  # the list grows
            for name, allowed in dimension.needs.items():
                if name in taken:
                    if taken[name] not in allowed:
                        return None
                    continue
                if name not in needed:
                    waiting.append(next(other for other in self.dimensions if other.name == name))
                needed[name] = [value for value in needed.get(name, allowed) if value in allowed]
                if not needed[name]:
                    return None
        taken |= {name: values[0] for name, values in needed.items()}
        try:
            return self.baseline.override(self._diff(taken))
        except RecipeError as error:
            raise SpaceError(f"{said}: {error}") from error


def _given(dimension: Dimension, params: Mapping[str, Parameter]) -> Parameter:
    if dimension.name not in params:
        raise SpaceError(f"parameter '{dimension.name}' is missing: {dimension.words}")
    if params[dimension.name] not in dimension:
        hint = nearest(str(params[dimension.name]), map(str, dimension.labels)) or f"; it is {dimension.words}"
        raise SpaceError(f"parameter '{dimension.name}'={params[dimension.name]} is not in the space{hint}")
    return params[dimension.name]


def _parts(dimension: Dimension) -> set[str]:
    """Return the parts of a recipe that a dimension sets: no rule of a recipe concerns more than one part."""
    return {path.split(".")[0] for path in dimension.paths()}


def _require_labels(said: str, name: str, values: Iterable[Parameter], earlier: Mapping[str, Dimension]) -> None:
    if name not in earlier:
        raise SpaceError(f"{said}, which is not declared before it{nearest(name, earlier)}")
    labels = earlier[name].labels
    if not labels:
        raise SpaceError(f"{said}, which is a range and no choice among a few")
    for value in values:
        if value not in labels:
            raise SpaceError(f"{said} being {value}, which it never is{nearest(str(value), map(str, labels))}")

"""Extensions of users: networks, data, augmentations, optimizers, schedules, metrics, callbacks from their packages.

An extension is a factory with typed options. It is named in a recipe as `module:function`, or by an entry point of a
package (group `cifar_lab.models`, `cifar_lab.datasets`, …), which stands for the same. Its module is imported only
when it is used. Its identity is part of a cell's fingerprint: the version of an `Extension`, else a hash of the source.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, get_type_hints

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from cifar_lab.errors import RecipeError, described, first_problem, nearest, plain_rule, shortened

_log = logging.getLogger(__name__)

Group = Literal["models", "datasets", "augmentations", "optimizers", "schedules", "metrics", "callbacks"]
GROUPS: tuple[Group, ...] = (
    "models", "datasets", "augmentations", "optimizers", "schedules", "metrics", "callbacks",
)  # fmt: skip
TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
"""Form of `module:function`."""
OWN = "module:function of your own"
"""Alternative to the names of what is built in or registered."""
NOTEBOOK = ("__main__", "__mp_main__")
"""Modules that hold what a notebook's cells or a script define."""
SUPPLIED: dict[Group, frozenset[str]] = {
    "models": frozenset({"classes", "side"}),
    "datasets": frozenset(),
    "augmentations": frozenset(),
    "optimizers": frozenset({"params", "parameters", "lr", "weight_decay"}),
    "schedules": frozenset(),
    "metrics": frozenset(),
    "callbacks": frozenset(),
}
"""Arguments that the lab passes to a factory of each group; all others are options."""


class Options(dict[str, Any]):
    """Options of an extension: JSON values by name, immutable and hashable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))

    def __reduce__(self) -> tuple[type[Options], tuple[dict[str, Any]]]:
        return Options, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("options are immutable")

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = __ior__ = _refuse


@dataclass(frozen=True, kw_only=True)
class Extension:
    """A factory with its options and its version; `module:name` may refer to one, or to the factory alone."""

    factory: Callable[..., Any]
    options: type[BaseModel] | None = None
    """Model of the options; None for the annotated keyword arguments of the factory."""
    version: str | None = None
    """Identity in fingerprints; None for a hash of the source."""


@dataclass(frozen=True)
class Registered:
    """Annotation of a recipe field that holds a name: a built-in one, one of an entry point, or `module:function`."""

    group: Group
    built_in: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.canonical, handler(source))

    def canonical(self, name: str) -> str:
        """Return a built-in name as it is, and `module:function` for all others.

        Raises:
            PydanticKnownError: nothing of that name is registered; pydantic adds the field.
            PydanticCustomError: packages register the name with different values.
        """
        if name in self.built_in or TARGET.fullmatch(name):
            return name
        try:
            target = find_target(self.group, name)
        except RecipeError as error:
            raise PydanticCustomError("clash", "{clash}", {"clash": str(error)}) from error
        if target is not None:
            return target
        names = [repr(each) for each in (*self.built_in, *registered(self.group))]
        raise PydanticKnownError("literal_error", {"expected": " or ".join(filter(None, [", ".join(names), OWN]))})


class BrokenExtension(NamedTuple):
    """Entry point that cannot be used, with the reason in one line."""

    name: str
    reason: str


def registered(group: Group) -> dict[str, str]:
    """Return the `module:function` of each registered name of a group; no module is imported.

    Names that packages register with different values are left out.
    """
    named = _points_by_name(group)
    return {name: next(iter(points)) for name, points in named.items() if len(points) == 1}


def find_target(group: Group, name: str) -> str | None:
    """Return the `module:function` of a registered name; None for an unknown one.

    Raises:
        RecipeError: packages register the name with different values.
    """
    points = _points_by_name(group).get(name, {})
    if len(points) > 1:
        raise RecipeError(_clash(points))
    return next(iter(points), None)


def find_broken(group: Group, built_in: Collection[str] = ()) -> Iterator[BrokenExtension]:
    """Import each extension of a group that a package registers, and yield those that cannot be used by their names."""
    yield from find_hidden(group, built_in)
    for name, points in _points_by_name(group).items():
        if len(points) > 1:
            yield BrokenExtension(name=name, reason=f"{group} {name}: {_clash(points)}")
    for point in _points(group):
        try:
            if not TARGET.fullmatch(point.value):
                raise RecipeError(f"'{point.value}' does not read module:function")
            load_extension(group, point.value)
            if group != "datasets":  # which are identified by their images
                describe_version(group, point.value)
        except RecipeError as error:
            yield BrokenExtension(name=point.name, reason=f"{group} {point.name}: {error}")


def find_hidden(group: Group, built_in: Collection[str]) -> Iterator[BrokenExtension]:
    """Yield each extension whose registered name is one of the `built_in`, which are used in its place."""
    for point in _points(group):
        if point.name in built_in:
            what = f"this name never means {point.value} of {_package(point)}"
            reason = f"{group} {point.name}: is built in, so that {what}; give module:function"
            yield BrokenExtension(name=point.name, reason=reason)


def warn_of_hidden(used: Iterable[tuple[Group, str]]) -> None:
    """Log a warning for each of these built-in names, of a group, that a package registers, too."""
    names = set(used)
    for group in GROUPS:
        if chosen := {name for its, name in names if its == group}:
            for hidden in find_hidden(group, chosen):
                _log.warning("warning: %s", hidden.reason)


def load_extension(group: Group, target: str) -> Extension:
    """Import the extension at `target`, `module:function`.

    Raises:
        RecipeError: the module cannot be imported, or has no such function, or is a notebook.
    """
    module_name, _, path = target.partition(":")
    if module_name in NOTEBOOK:
        raise RecipeError(f"{group} {target}: {not_of_a_file(path)}")
    try:
        value: Any = _imported(module_name)
    except (Exception, SystemExit) as error:  # an extension may raise anything while it is imported
        raise RecipeError(f"{group} {target}: {described(error)}") from error
    for part in path.split("."):
        if not hasattr(value, part):
            names = [name for name in vars(value) if not name.startswith("_")]
            raise RecipeError(f"{group} {target}: no '{part}' there{nearest(part, names)}")
        value = getattr(value, part)
    if isinstance(value, Extension):
        return value
    if not callable(value):
        raise RecipeError(f"{group} {target}: not a function, but {type(value).__name__}")
    return Extension(factory=value)


def not_of_a_file(name: str) -> str:
    """Return what to do about a function of a notebook's cell or a script, which no worker process has."""
    return (
        "worker processes cannot see what a notebook's cell or a script defines; write it to a file beside it "
        f"(%%writefile mine.py in a notebook) and name it 'mine:{name}'"
    )


def check_options(group: Group, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the factory takes them.

    Raises:
        RecipeError: an option is unknown, is missing, or has the wrong type.
    """
    valid = _validated(group, target, options)
    own = load_extension(group, target).options is not None  # then defaults are those of the model
    return {name: getattr(valid, name) for name in type(valid).model_fields if own or name in valid.model_fields_set}


def build(group: Group, target: str, options: Mapping[str, Any], *supplied: Any, **named: Any) -> Any:
    """Call the factory with validated options, and with those of the `named` arguments that it takes.

    Raises:
        RecipeError: as `load_extension` and `check_options`, or the factory would end the program.
    """
    factory, chosen = load_extension(group, target).factory, check_options(group, target, options)
    parameters = inspect.signature(factory).parameters.values()
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    names = {parameter.name for parameter in parameters}
    try:
        return factory(*supplied, **{k: v for k, v in named.items() if takes_all or k in names}, **chosen)
    except SystemExit as error:
        raise RecipeError(f"{group} {target}: {described(error)}") from error


def build_function(path: str, group: Group, target: str, options: Mapping[str, Any]) -> Any:
    """Return the function that a factory makes; `path`: beginning of the message about another value.

    Raises:
        RecipeError: as `build`, or the factory makes something else.
    """
    made = build(group, target, options)
    if not callable(made):
        raise RecipeError(f"{path}{target}: its factory returns {type(made).__name__}, not a function")
    return made


def identity(group: Group, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fingerprint holds of an extension: its name, its version, and options that are not defaults."""
    valid = _validated(group, target, options)
    chosen = valid.model_dump(mode="json", exclude_defaults=True)
    return {"name": target, "version": describe_version(group, target), "options": chosen}


@cache
def describe_version(group: Group, target: str) -> str:
    """Return the version of an extension, else the SHA-256 of the source of its module (see `_modules_of`).

    For the `__init__.py` of a package it is the hash of all Python files of the package.

    Raises:
        RecipeError: it has neither a version nor a source.
    """
    if (version := load_extension(group, target).version) is not None:
        return version
    imported_source(group, target)  # kept for `require_unchanged`
    if (source := _present_source(group, target)) is None:
        raise RecipeError(f"{group} {target}: its source is not there to be hashed; give Extension(version=…)")
    return source


@cache
def imported_source(group: Group, target: str) -> str | None:
    """Return the hash of an extension's source as this process imported it; None if there is no source."""
    return _present_source(group, target)


def require_unchanged(group: Group, target: str) -> None:
    """Check that an extension's source is as it was when this process imported it, as in an earlier cell of a notebook.

    Raises:
        RecipeError: it was changed; this process still has the old code, and would name cells after it.
    """
    if _present_source(group, target) != imported_source(group, target):
        raise RecipeError(f"{group} {target}: its source has changed since it was imported here; restart the kernel")


def _present_source(group: Group, target: str) -> str | None:
    """Return the SHA-256 of the source of an extension as it is on disk; None if it is not there."""
    load_extension(group, target)
    digest = hashlib.sha256()
    for name in _modules_of(target):
        path = Path(getattr(sys.modules.get(name), "__file__", None) or "")
        if path.suffix != ".py" or not path.is_file():
            return None
        files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        for file in files:
            digest.update(f"{file.relative_to(path.parent).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return f"sha256:{digest.hexdigest()}"


def _modules_of(target: str) -> list[str]:
    """Return the modules whose source identifies what is at `target`.

    That of a function or class is the one that defines it. What was made of others, as by `functools.partial` or a
    decorator, has the module that names it, and the factory's own unless it is one of Python's.
    """
    named, _, path = target.partition(":")
    value = attrgetter(path)(sys.modules[named])
    with suppress(AttributeError, KeyError, TypeError):
        if attrgetter(value.__qualname__)(sys.modules[value.__module__]) == value:
            return [value.__module__]
    factory = value.factory if isinstance(value, Extension) else value
    while isinstance(factory, partial):
        factory = factory.func
    own = getattr(factory, "__module__", None) or named
    return [named] if own == named or own.partition(".")[0] in sys.stdlib_module_names else [named, own]


def _points(group: Group) -> list[EntryPoint]:
    return sorted(entry_points(group=f"cifar_lab.{group}"), key=lambda point: (point.name, point.value))


def _points_by_name(group: Group) -> dict[str, dict[str, EntryPoint]]:
    """Return the entry points that read `module:function`, by name and value."""
    named: dict[str, dict[str, EntryPoint]] = {}
    for point in _points(group):
        if TARGET.fullmatch(point.value):
            named.setdefault(point.name, {}).setdefault(point.value, point)
    return named


def _clash(points: Mapping[str, EntryPoint]) -> str:
    """Return the packages that register one name, by the values that they give it."""
    by = " and ".join(f"by {_package(point)} as {target}" for target, point in points.items())
    return f"is registered {by}; give module:function"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "a package"


def _imported(name: str) -> Any:
    """Import a module; one of the current folder is found, too, after all others."""
    sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop()


def _validated(group: Group, target: str, options: Mapping[str, Any]) -> BaseModel:
    extension = load_extension(group, target)
    model = extension.options or _model_of(group, target)
    try:
        return model.model_validate_json(json.dumps(dict(options)))
    except ValidationError as error:
        raise RecipeError(f"{group} {target}: {_one_line(error, model)}") from error


@cache
def _model_of(group: Group, target: str) -> type[BaseModel]:
    """Return a strict model of the keyword arguments of a factory that the lab does not supply."""
    factory = load_extension(group, target).factory
    try:
        hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except Exception:  # noqa: BLE001 (an annotation that cannot be resolved leaves the option's type open)
        hints = {}
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(factory).parameters.values():
        variadic = parameter.kind in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        if parameter.name in SUPPLIED[group] or variadic:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model("Options", __config__=config, **fields)


def _one_line(error: ValidationError, model: type[BaseModel]) -> str:
    first = first_problem(error.errors())
    path = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"no option '{path}'{nearest(path, model.model_fields)}"
    if first["type"] == "missing":
        return f"the option '{path}' is missing"
    return f"option {path}={shortened(json.dumps(first['input'], default=str), 80)}: {plain_rule(first['msg'])}"

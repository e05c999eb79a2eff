"""`describe recipe`: the fields of a recipe, with their defaults and ranges."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cifar_lab.cli import console
from cifar_lab.config.overrides import as_typed
from cifar_lab.config.recipe import LARGEST, Recipe
from cifar_lab.extension import Registered
from cifar_lab.terminal import is_terminal

NAME = "recipe"
"""The word that `describe` takes in place of an ablation's name."""


@dataclass(frozen=True, kw_only=True)
class RecipeField:
    """One field of a recipe in words."""

    path: str
    default: str
    range: str
    line: str


def print_fields(*, as_json: bool) -> None:
    """Print every field of a recipe: its path, default, range and meaning."""
    found = list(fields())
    if as_json:
        console.print_json([asdict(field) for field in found])
        return
    headings = ("path", "default", "range", "meaning")
    rows = [(field.path, field.default, field.range, field.line) for field in found]
    if not is_terminal(console.out.file):  # one line each, for grep
        widths = [max(map(len, column)) for column in zip(headings[:3], *(row[:3] for row in rows), strict=True)]
        for *cells, last in (headings, *rows):
            console.write("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last]))
        return
    console.out.print(console.table("", headings, rows, whole=headings[:2]))


def fields() -> Iterator[RecipeField]:
    """Yield the fields in the order of declaration; defaults are those of the Efficient ResNet."""
    defaults = Recipe().flat()
    for path, info in _leaves(Recipe):
        line = (info.description or "").partition("\n")[0]
        yield RecipeField(path=path, default=as_typed(defaults[path]), range=_range(info), line=line)


def _leaves(part: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, info in part.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def _range(info: FieldInfo) -> str:
    return _words(info.annotation, info.metadata)


def _words(kind: Any, limits: Iterable[Any]) -> str:
    """Return the values of a type in words: `1 to 11`, `above 0`, `none, stem, block`, `list of 1 to 5: 1 or more`."""
    origin, inner = get_origin(kind), get_args(kind)
    limits = list(limits)
    for registered in (limit for limit in limits if isinstance(limit, Registered)):
        return ", or ".join(filter(None, (", ".join(registered.built_in), "module:function")))
    if origin is Annotated:
        return _words(inner[0], [*_flat(inner[1:]), *limits])
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in {Union, types.UnionType}:
        return " or ".join(_words(each, limits if each is not type(None) else ()) for each in inner)
    if kind is dict or origin is dict:
        return "JSON object"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _range(kind.model_fields["name"])
    if origin is tuple:
        bounds = _limits(limits)
        many = f" of {bounds['min_length']} to {bounds['max_length']}" if "max_length" in bounds else ""
        many = many if inner[-1] is Ellipsis else f" of {len(inner)}"
        return f"list{many}, each {_words(inner[0], ())}"
    if kind is type(None):
        return "none"
    if kind is bool:
        return "true, false"
    return "fingerprint" if kind is str else _bounds(_limits(limits))


def _flat(limits: Iterable[Any]) -> Iterator[Any]:
    """Yield limits, those inside a pydantic field one by one."""
    for limit in limits:
        yield from limit.metadata if isinstance(limit, FieldInfo) else [limit]


def _limits(limits: Iterable[Any]) -> dict[str, Any]:
    names = ("ge", "gt", "le", "lt", "min_length", "max_length")
    found = {name: getattr(limit, name, None) for limit in limits for name in names if hasattr(limit, name)}
    return {name: value for name, value in found.items() if value is not None}


def _bounds(found: dict[str, Any]) -> str:
    """Return `1 to 11`, `0 or more`, `above 0`, `0 to below 1`; the largest exact integer bounds nothing."""
    low = f"above {found['gt']}" if "gt" in found else str(found.get("ge", ""))
    high = f"below {found['lt']}" if "lt" in found else f"{found['le']:,}" if found.get("le", LARGEST) < LARGEST else ""
    if low and high:
        return f"{low} to {high}" if "gt" not in found else f"{low}, {'up to ' if 'le' in found else ''}{high}"
    return low if not high and "gt" in found else f"{low} or more" if low else high or "any number"

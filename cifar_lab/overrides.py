"""What a user types to change a recipe, `train.epochs=30`, as a diff."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

from cifar_lab.errors import RecipeError, nearest
from cifar_lab.recipe import Recipe, paths


def parse_overrides(words: list[str]) -> dict[str, object]:
    """`["train.epochs=30", "model.blocks=[3,3,3]"]` as a diff; values are JSON, and bare words are strings.

    A value of the wrong type is passed on as it stands: `Recipe.override` refuses it by name.

    Raises:
        RecipeError: a word is not `path=value`, a path is not known, or one path is set twice.
    """
    diff: dict[str, object] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise RecipeError(f"an override reads path=value, got '{word}'{nearest(word, paths())}")
        if path in diff:
            raise RecipeError(f"{path} is set twice")
        diff[path] = _parse_value(path, text)
    return diff


def _parse_value(path: str, text: str) -> object:
    """What `text` means at `path`: `none` is a name for `model.se.placement` and nothing for `model.extra_fc`."""
    readings = [*_readings(text), text]
    for value in readings:
        try:
            Recipe().override({path: value})
        except RecipeError:
            if path not in paths():
                raise
            continue
        return value
    as_typed = (value for value in readings if value is not None and not isinstance(value, bool))
    return next(as_typed)  # refused as `off`, not as `false`


def _readings(text: str) -> Iterator[object]:
    if text.lower() in {"none", "null"}:
        yield None
    if text.lower() in {"true", "on", "yes", "false", "off", "no"}:
        yield text.lower() in {"true", "on", "yes"}
    for parse in (json.loads, float):
        with suppress(ValueError):
            yield parse(text)

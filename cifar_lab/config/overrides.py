"""Overrides of a recipe as a user types them, `train.epochs=30`: text to a diff, and a diff to text."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial

from cifar_lab.config.recipe import Recipe, paths
from cifar_lab.errors import RecipeError, nearest, shortened

MOST_DIGITS = 15
"""Maximum digits of a number on the command line: all such numbers are exact in floating point."""


def parse_overrides(words: list[str]) -> dict[str, object]:
    """Parse `["train.epochs=30", "model.blocks=[3,3,3]"]` to a diff; values are JSON, and bare words are strings.

    A value of the wrong type is passed on unchanged: `Recipe.override` rejects it with the path's name.

    Raises:
        RecipeError: a word is not `path=value`, a path is unknown, or a path or a name of a JSON object is set twice.
    """
    diff: dict[str, object] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise RecipeError(f"an override reads path=value, got '{word}'{_meant(word)}")
        if path in diff:
            raise RecipeError(f"{path} is set twice")
        diff[path] = _parse_value(path, text)
    return diff


def format_overrides(diff: Mapping[str, object], *, digits: int | None = None) -> str:
    """Return a diff as text that can be pasted into a command line: `optim.lr=0.1 'model.blocks=[4,4,3]'`.

    `digits`: significant digits of a float, for a table; None: all of them.
    """
    return shlex.join(as_words(diff, digits=digits))


def as_typed(value: object, *, digits: int | None = None) -> str:
    """Return a value of a recipe as a user types it: `sgd`, `0.1`, `true`, `none`, `[4,4,3]`.

    `parse_overrides` reads it back as the same value, unless a float is rounded to `digits` significant digits.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    return "none" if value is None else json.dumps(value, separators=(",", ":"), default=str)


def as_words(diff: Mapping[str, object], *, digits: int | None = None) -> list[str]:
    """Return a diff as the words of a command line, not quoted: `["train.epochs=30", "model.blocks=[4,4,3]"]`."""
    return [f"{path}={as_typed(value, digits=digits)}" for path, value in diff.items()]


def parse_number(text: str, *, least: int = 0) -> int | None:
    """Parse a whole number of ASCII digits, `MOST_DIGITS` at most; None for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        return None
    return number if (number := int(text)) >= least else None


def _meant(word: str) -> str:
    """Return a hint for a word without `=`: a complete path lacks its value, any other word is misspelt."""
    if word in paths():
        return f"; write {word}={as_typed(Recipe().flat()[word])}, or another value"
    return nearest(word, paths())


def each_name_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object of these pairs of JSON.

    Raises:
        RecipeError: two have one name; the last would count without a word.
    """
    made: dict[str, object] = {}
    for name, value in pairs:
        if name in made:
            raise RecipeError(f"'{shortened(name, 80)}' is set twice")
        made[name] = value
    return made


def _parse_value(path: str, text: str) -> object:
    """Return the value of `text` at `path`: `none` is a placement of SE, but the absence of `model.extra_fc`."""
    try:
        readings = [*_readings(text), text]
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    for value in readings:
        try:
            Recipe().override({path: value})
        except RecipeError:
            if path not in paths():
                raise
            continue
        return value
    if text.startswith("(") and text.endswith(")"):
        raise RecipeError(f"{path}={text}: a list is typed in square brackets, {path}=[{text[1:-1]}]")
    refused = (value for value in readings if value is not None and not isinstance(value, bool))
    return next(refused)  # refused as `off`, not as `false`


def _readings(text: str) -> Iterator[object]:
    if text.lower() in {"none", "null"}:
        yield None
    if text.lower() in {"true", "on", "yes", "false", "off", "no"}:
        yield text.lower() in {"true", "on", "yes"}
    for parse in (partial(json.loads, object_pairs_hook=each_name_once), float):
        with suppress(ValueError, RecursionError):  # numbers with thousands of digits, deeply nested brackets
            yield parse(text)

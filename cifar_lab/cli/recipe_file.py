"""A recipe as a JSON file: what `sweep-best -o` writes and `train --recipe` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cifar_lab.errors import UsageError
from cifar_lab.recipe import Recipe

LARGEST = 2**20
"""Bytes of a file that are read at most: a recipe takes about two thousand."""
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="Recipe as JSON, as `sweep-best -o` writes it.")
]


def read_recipe(file: Path) -> Recipe:
    """Return the recipe of a JSON file, as `sweep-best -o` writes it; what the file leaves out is default.

    The file may be UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        UsageError: it cannot be read, is larger than `LARGEST`, or is no JSON object.
        RecipeError: a path or a value in it is wrong.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise UsageError(f"--recipe {file}: larger than {LARGEST // 2**20} MiB, which no recipe is")
        tree = json.loads(text)
        if not isinstance(tree, dict):
            raise UsageError(f"--recipe {file}: a JSON object is wanted, as `sweep-best -o` writes it")
        leaves = dict(_leaves(tree))
    except RecursionError:
        raise UsageError(f"--recipe {file}: brackets nested too deep for a recipe") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--recipe {file}: {getattr(error, 'strerror', None) or error}") from error
    return Recipe().override(leaves)


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values by dotted path."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

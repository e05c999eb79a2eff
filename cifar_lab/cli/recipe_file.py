"""A recipe as a JSON file: what `sweep-best -o` writes and `train --recipe` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cifar_lab.errors import UsageError
from cifar_lab.recipe import Recipe

RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="A recipe as JSON: what `sweep-best -o` writes.")
]


def read_recipe(file: Path) -> Recipe:
    """The recipe of a JSON file, as `sweep-best -o` writes it; what it leaves out is default."""
    try:
        tree = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"--recipe {file}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"--recipe {file}: a JSON object is wanted, as `sweep-best -o` writes it")
    return Recipe().override(dict(_leaves(tree)))


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """By dotted path."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

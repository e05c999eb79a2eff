"""Recipe files in JSON, written by `sweep-best -o` and read by `train --recipe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cifar_lab.config.recipe import Recipe, leaves
from cifar_lab.errors import UsageError

LARGEST = 2**20
"""Maximum bytes of a file: a recipe takes about two thousand."""
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="Recipe as JSON, as `sweep-best -o` writes it.")
]


def read_recipe(file: Path) -> Recipe:
    """Read a recipe from a JSON file, as `sweep-best -o` writes it; missing fields have their defaults.

    The file may be UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        UsageError: it is unreadable, larger than `LARGEST`, or not a JSON object.
        RecipeError: it contains an invalid path or value.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise UsageError(f"--recipe {file}: larger than {LARGEST // 2**20} MiB, which no recipe is")
        tree = json.loads(text)
        if not isinstance(tree, dict):
            raise UsageError(f"--recipe {file}: a JSON object is wanted, as `sweep-best -o` writes it")
        fields = dict(leaves(tree))
    except RecursionError:
        raise UsageError(f"--recipe {file}: brackets nested too deep for a recipe") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--recipe {file}: {getattr(error, 'strerror', None) or error}") from error
    return Recipe().override(fields)

"""Recipes in JSON files, as `sweep-best -o` writes them."""

from __future__ import annotations

import json
from pathlib import Path

from cifar_lab.config.overrides import each_name_once
from cifar_lab.config.recipe import Recipe, leaves
from cifar_lab.errors import RecipeError, UsageError

LARGEST_RECIPE = 2**20
"""Maximum bytes of a file: a recipe takes about two thousand."""


def read_recipe(file: Path) -> Recipe:
    """Read a recipe from a JSON file, as `sweep-best -o` writes it; missing fields have their defaults.

    The file may be UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        UsageError: it is unreadable, larger than `LARGEST_RECIPE`, or not a JSON object.
        RecipeError: it contains an invalid path or value.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST_RECIPE + 1)
        if len(text) > LARGEST_RECIPE:
            raise UsageError(f"recipe {file}: larger than {LARGEST_RECIPE // 2**20} MiB, which no recipe is")
        tree = json.loads(text, object_pairs_hook=each_name_once)
        if not isinstance(tree, dict):
            raise UsageError(f"recipe {file}: a JSON object is wanted, as `sweep-best -o` writes it")
        fields = dict(leaves(tree))
    except RecipeError as error:
        raise RecipeError(f"recipe {file}: {error}") from error
    except RecursionError:
        raise UsageError(f"recipe {file}: brackets nested too deep for a recipe") from None
    except OSError as error:
        raise UsageError(f"recipe {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"recipe {file}: not JSON, as `sweep-best -o` writes it ({error})") from error
    return Recipe().override(fields)

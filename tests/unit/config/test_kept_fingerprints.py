"""Cells that were trained by earlier versions keep their names: what a recipe can say grows, what it said stays."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST, RESNET18
from cifar_lab.config.recipe import Recipe

KEPT = Path(__file__).parents[3] / "docs" / "results" / "study.zip"


def kept() -> dict[str, dict[str, Any]]:
    """Return `cell.json` of each kept cell by its fingerprint."""
    with zipfile.ZipFile(KEPT) as archive:
        names = [name for name in archive.namelist() if name.endswith("/cell.json")]
        return {name.split("/")[1]: json.loads(archive.read(name)) for name in names}


CELLS = kept()


@pytest.mark.parametrize("fingerprint", sorted(CELLS), ids=lambda fingerprint: fingerprint[:12])
def test_a_cell_that_is_kept_still_has_its_fingerprint(fingerprint: str) -> None:
    cell = CELLS[fingerprint]
    recipe = Recipe.model_validate_json(json.dumps(cell["recipe"]))
    assert recipe.fingerprint(seed=cell["seed"], data_hash=cell["data"]["hash"]) == fingerprint


def test_there_are_cells_to_compare() -> None:
    assert len(CELLS) == 180


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [(EFFICIENT_RESNET, "5aa78891210d3816"), (RESNET18, "5755c7c8a0004853"), (FAST, "850ccd83a1b36242")],
    ids=["efficient", "resnet18", "fast"],
)
def test_the_baselines_keep_their_digests(recipe: Recipe, digest: str) -> None:
    assert recipe.digest()[:16] == digest

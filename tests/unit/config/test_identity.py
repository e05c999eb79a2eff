"""The identity of recipes: earlier digests stay, and a field that a later version adds changes none at its default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.ablation.registry import discover
from cifar_lab.config import identity, recipe
from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST, RESNET18
from cifar_lab.config.recipe import ModelConfig, Recipe, TrainConfig
from cifar_lab.config.scale import find_scale

KEPT: dict[str, Any] = json.loads((Path(__file__).parent / "kept" / "digests.json").read_text())
"""Digests as version 0.1.0 computed them before the identity had a module of its own: the first 16 hex digits."""
BASELINES = {"efficient": EFFICIENT_RESNET, "resnet18": RESNET18, "fast": FAST}


def test_the_built_in_variants_keep_their_digests_at_each_scale() -> None:
    registry = discover()
    now = {}
    for place in KEPT["ablations"]:
        cell, scale = place.split("@")
        ablation, variant = cell.split("/")
        now[place] = find_scale(scale).apply(registry.find(ablation).recipe(variant)).digest()[:16]
    assert now == KEPT["ablations"]


def test_each_field_alone_and_those_that_switch_each_other_off_keep_their_digests() -> None:
    now = [[base, diff, BASELINES[base].override(diff).digest()[:16]] for base, diff, _ in KEPT["overrides"]]
    assert now == KEPT["overrides"]
    first = {path for _, diff, _ in KEPT["overrides"] for path in diff}
    assert first == identity.FIRST | set(identity.NEUTRAL[0])


class _LaterTrain(TrainConfig):
    restarts: int = 3


class _LaterModel(ModelConfig):
    mixer: str = "none"


class _LaterRecipe(Recipe):
    """A recipe of a later version with a new field in a group, and a new group."""

    model: _LaterModel = _LaterModel()
    train: _LaterTrain = _LaterTrain()
    extra: recipe.ClipConfig = recipe.ClipConfig()


def test_a_new_field_with_its_default_changes_no_digest() -> None:
    assert _LaterRecipe().digest() == Recipe().digest()
    assert "extra" not in _LaterRecipe().active()


@pytest.mark.parametrize(
    "later",
    [
        _LaterRecipe(train=_LaterTrain(restarts=4)),
        _LaterRecipe(model=_LaterModel(mixer="mlp")),
        _LaterRecipe(extra=recipe.ClipConfig(threshold=0.5)),
    ],
    ids=["field", "text", "group"],
)
def test_a_new_field_with_another_value_is_another_training(later: Recipe) -> None:
    assert later.digest() != Recipe().digest()


def test_every_field_is_in_one_table() -> None:
    later = [path for table in identity.NEUTRAL for path in table]
    assert len(later) == len(set(later))
    assert not identity.FIRST & set(later)
    assert identity.FIRST | set(later) == set(recipe.paths())

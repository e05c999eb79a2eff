"""Continued training: the recipe that starts from a finished cell's final weights.

A worker loads the weights themselves: `trained_weights.warm_start`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.config.built_in_names import MODELS
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.runs_folder import find_record


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Starting point of a continued training."""

    parent: str
    """Fingerprint of the cell that it continues."""
    recipe: Recipe
    """Recipe of the parent cell, starting from its weights."""
    source: str
    """Data source of the parent cell, as typed then."""
    seed: int

    @property
    def name(self) -> str:
        """Return the name of the variant that is trained."""
        return f"from-{self.parent[:12]}"


def further_training(runs: Path, prefix: str, overrides: Mapping[str, Any], *, option: str = "--from") -> WarmStart:
    """Return the starting point for continuing the cell `prefix` in `runs`; `overrides` may not change the network.

    `option`: what `prefix` was given as, for errors.

    Raises:
        TrackingError: there is no such cell.
        DamageError: its record is damaged.
        UsageError: it is not finished, `overrides` ask for another network, or the code of its own has changed.
    """
    found = find_record(runs, prefix)
    cell, result = found.cell(), found.result()
    if cell is None or result is None or not result.is_finished:
        raise UsageError(f"{option} {prefix}: the cell {found.fingerprint[:12]} is {found.state()}, not finished")
    found.require_sound(found.weights)
    trained = cell.recipe.resolve()
    if trained.model.name not in MODELS.built_in and (names := cell.changed_code()):
        raise UsageError(f"{option} {prefix}: its weights fit its own network only, and {names} changed since then")
    recipe = trained.override({"init_from": found.fingerprint})
    changed = recipe.override(overrides)
    if changed.model.model_copy(update={"dropout": 0.0}) != recipe.model.model_copy(update={"dropout": 0.0}):
        paths = ", ".join(path for path in overrides if path.startswith("model."))
        raise UsageError(f"{option} {prefix}: its weights fit its own network only, and {paths} asks for another")
    return WarmStart(parent=found.fingerprint, recipe=recipe, source=_source(runs, found.fingerprint), seed=cell.seed)


def _source(runs: Path, fingerprint: str) -> str:
    requests = read_index(runs).requests(fingerprint)
    if requests:
        return requests[-1][0].data.source
    raise TrackingError(
        f"no invocation in {runs} says which data {fingerprint[:12]} was trained on; name it by --data "
        "(in Python data=…)"
    )

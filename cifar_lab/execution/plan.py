"""The plan of an ablation at a scale on some data: its cells, their states, and estimates of the remaining time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import DRAWS, Recipe
from cifar_lab.config.scale import Scale
from cifar_lab.data.dataset import Dataset
from cifar_lab.execution.resolved_recipes import make_recipes
from cifar_lab.execution.resolved_recipes import parse_seeds as parse_seeds  # part of the interface of a plan
from cifar_lab.models.cost import BUDGET, Cost, network_cost
from cifar_lab.results.comparison import MIXED
from cifar_lab.store.cell_record import ENDED, CellRecord, State, advice_on_damage


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """One variant × seed: declared recipe, trained recipe, and state."""

    variant: str
    seed: int
    declared: Recipe
    """Recipe of the variant with the overrides, without the scale: the budget applies to it."""
    recipe: Recipe
    """Recipe that is trained."""
    fingerprint: str
    state: State
    lineage: str
    """Digest of the recipe and its ancestors: the same for every seed of a variant."""
    images: ImageShape = CIFAR10_SHAPE
    needs: tuple[str, ...] = ()
    """Fingerprints of the ancestors whose weights it starts from, the nearest first."""

    @property
    def name(self) -> str:
        return f"{self.variant}/s{self.seed}"

    @property
    def cost(self) -> Cost:
        """Return the counts of the network that is trained."""
        return network_cost(self.recipe.model, self.images)

    @property
    def declared_cost(self) -> Cost:
        """Return the counts of the network that the variant declares."""
        return network_cost(self.declared.model, self.images)

    @property
    def is_done(self) -> bool:
        return self.state in ENDED

    def now(self, runs: Path) -> State:
        """Return the current state of the cell."""
        return CellRecord(runs / self.fingerprint).state()

    def damage(self, runs: Path) -> str | None:
        """Describe the damage of its record and the remedy; None if it is sound."""
        found = CellRecord(runs / self.fingerprint).damage()
        return f"{found}; {advice_on_damage(self.fingerprint)}" if found is not None else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cells of one ablation, ordered by seed, so that a half-finished study is balanced."""

    ablation: Ablation
    scale: Scale
    source: str
    """Data source as typed."""
    dataset: Dataset
    overrides: Mapping[str, Any]
    cells: tuple[PlannedCell, ...]
    estimates: Mapping[str, float] = field(default_factory=dict)
    """Estimated seconds by fingerprint, for cells that are not done."""

    @property
    def protocol(self) -> str:
        """Protocol of all cells, or `MIXED`."""
        found = {cell.recipe.train.protocol for cell in self.cells}
        return found.pop() if len(found) == 1 else MIXED

    def to_train(self, *, retry_failed: bool = False) -> list[PlannedCell]:
        """Return the cells that a run must complete: not done or damaged, and not failed unless `retry_failed`.

        Cells that another runner is training are included: they are waited for, and taken over if that runner dies.
        """
        left_alone = {"damaged"} if retry_failed else {"damaged", "failed"}
        cells = [cell for cell in self.cells if not cell.is_done and cell.state not in left_alone]
        return list({cell.fingerprint: cell for cell in reversed(cells)}.values())[::-1]


def make_plan(
    ablation: Ablation,
    *,
    scale: Scale,
    source: str,
    dataset: Dataset,
    runs: Path,
    overrides: Mapping[str, Any] | None = None,
    variants: list[str] | None = None,
    seeds: tuple[int, ...] | None = None,
    max_params: int = BUDGET,
) -> Plan:
    """Resolve every cell, without training or allocating weights.

    Raises:
        UsageError: an unknown variant, an override that does not fit, two variants that coincide at this scale.
        BudgetError: a declared network exceeds `max_params` and is not marked as over budget.
    """
    overrides = dict(overrides or {})
    declared, recipes = make_recipes(
        ablation, scale=scale, overrides=overrides, variants=variants, max_params=max_params, images=dataset.shape
    )
    names = list(declared)
    as_held = declared[names[0]].flat()
    overrides = {path: as_held[path] for path in overrides}  # 1 and 1.0 are the same value if the field is a float
    cells: list[PlannedCell] = []
    for seed in seeds if seeds is not None else ablation.seeds:
        made: dict[str, PlannedCell] = {}
        for name in names:
            parent = made.get(ablation.variant(name).continues or "")
            made[name] = _cell(name, seed, declared[name], recipes[name], dataset, runs, parent)
        cells += made.values()
    return Plan(ablation=ablation, scale=scale, source=source, dataset=dataset, overrides=overrides, cells=tuple(cells))


def _cell(
    name: str, seed: int, declared: Recipe, recipe: Recipe, dataset: Dataset, runs: Path, parent: PlannedCell | None
) -> PlannedCell:
    lineage = recipe.digest()
    if parent is not None:
        recipe = recipe.override({"init_from": parent.fingerprint})
        lineage = f"{lineage} with draws {DRAWS} after {parent.lineage}"
    fingerprint = recipe.fingerprint(seed=seed, data_hash=dataset.hash)
    return PlannedCell(
        variant=name,
        seed=seed,
        declared=declared,
        recipe=recipe,
        fingerprint=fingerprint,
        state=CellRecord(runs / fingerprint).state(),
        lineage=lineage,
        images=dataset.shape,
        needs=(parent.fingerprint, *parent.needs) if parent is not None else (),
    )


def as_dict(cell: PlannedCell, estimates: Mapping[str, float]) -> dict[str, Any]:
    """Return one cell as in the JSON of the `plan` command."""
    return {
        "fingerprint": cell.fingerprint,
        "variant": cell.variant,
        "seed": cell.seed,
        "state": cell.state,
        "estimate_seconds": None if cell.is_done else estimates.get(cell.fingerprint),
        "parameters": cell.declared_cost.parameters,
        "parameters_trained": cell.cost.parameters,
        "macs": cell.cost.macs or None,
        "passes": cell.recipe.passes,
    }

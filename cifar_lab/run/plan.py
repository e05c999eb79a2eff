"""The plan: which cells an ablation has, at a scale, on some data; which of them are done; what the rest will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_lab.ablation import Ablation
from cifar_lab.data.dataset import Dataset
from cifar_lab.models.budget import BUDGET, cost
from cifar_lab.recipe import DRAWS, Recipe
from cifar_lab.report.comparison import MIXED
from cifar_lab.run.recipes import make_recipes
from cifar_lab.run.recipes import parse_seeds as parse_seeds  # it belongs to the words of a plan
from cifar_lab.scale import Scale
from cifar_lab.tracking.record import Record, State, remedy


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant × seed: what is declared, what is trained, and how far it is."""

    variant: str
    seed: int
    declared: Recipe
    """The variant's recipe with the overrides, without the scale: what the budget judges."""
    recipe: Recipe
    """What is trained."""
    fingerprint: str
    state: State
    lineage: str
    """Digest of the recipe, and of those that it descends from: the same for every seed of a variant."""
    needs: tuple[str, ...] = ()
    """Fingerprints of the cells whose weights it descends from, the nearest first."""

    @property
    def name(self) -> str:
        return f"{self.variant}/s{self.seed}"

    @property
    def is_done(self) -> bool:
        return self.state in {"finished", "diverged"}

    def now(self, runs: Path) -> State:
        """The state that the cell is in by now."""
        return Record(runs / self.fingerprint).state()

    def damage(self, runs: Path) -> str | None:
        """Return what is damaged of its record, and what can be done; None for a sound one."""
        found = Record(runs / self.fingerprint).damage()
        return f"{found}; {remedy(self.fingerprint)}" if found is not None else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cells of one question, seeds first, so that a half-finished study is balanced."""

    ablation: Ablation
    scale: Scale
    source: str
    """The data as typed."""
    dataset: Dataset
    overrides: Mapping[str, Any]
    cells: tuple[Cell, ...]
    estimates: Mapping[str, float] = field(default_factory=dict)
    """Seconds by fingerprint, for the cells that are not done."""

    @property
    def protocol(self) -> str:
        """That of all cells, or `MIXED`."""
        found = {cell.recipe.train.protocol for cell in self.cells}
        return found.pop() if len(found) == 1 else MIXED

    def to_train(self, *, retry_failed: bool = False) -> list[Cell]:
        """Return what a run brings to its end: the cells neither done, damaged nor failed (unless these are retried).

        Those that another runner trains now are among them: they are waited for, and taken over if it dies.
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
    """Resolve every cell. Nothing is trained, and no weight is allocated.

    Raises:
        UsageError: an unknown variant, an override that does not fit, two variants that coincide at this scale.
        BudgetError: a declared network is over `max_params` and does not say so.
    """
    overrides = dict(overrides or {})
    declared, recipes = make_recipes(
        ablation, scale=scale, overrides=overrides, variants=variants, max_params=max_params
    )
    names = list(declared)
    as_held = declared[names[0]].flat()
    overrides = {path: as_held[path] for path in overrides}  # 1 and 1.0 are one setting where a path is a float
    cells: list[Cell] = []
    for seed in seeds if seeds is not None else ablation.seeds:
        made: dict[str, Cell] = {}
        for name in names:
            parent = made.get(ablation.variant(name).continues or "")
            made[name] = _cell(name, seed, declared[name], recipes[name], dataset, runs, parent)
        cells += made.values()
    return Plan(ablation=ablation, scale=scale, source=source, dataset=dataset, overrides=overrides, cells=tuple(cells))


def _cell(
    name: str, seed: int, declared: Recipe, recipe: Recipe, dataset: Dataset, runs: Path, parent: Cell | None
) -> Cell:
    lineage = recipe.digest()
    if parent is not None:
        recipe = recipe.override({"init_from": parent.fingerprint})
        lineage = f"{lineage} with draws {DRAWS} after {parent.lineage}"
    fingerprint = recipe.fingerprint(seed=seed, data_hash=dataset.hash)
    return Cell(
        variant=name,
        seed=seed,
        declared=declared,
        recipe=recipe,
        fingerprint=fingerprint,
        state=Record(runs / fingerprint).state(),
        lineage=lineage,
        needs=(parent.fingerprint, *parent.needs) if parent is not None else (),
    )


def as_dict(cell: Cell, estimates: Mapping[str, float]) -> dict[str, Any]:
    """One cell as the `plan` command's JSON has it."""
    return {
        "fingerprint": cell.fingerprint,
        "variant": cell.variant,
        "seed": cell.seed,
        "state": cell.state,
        "estimate_seconds": None if cell.is_done else estimates.get(cell.fingerprint),
        "parameters": cost(cell.declared.model).parameters,
        "parameters_trained": cost(cell.recipe.model).parameters,
        "macs": cost(cell.recipe.model).macs,
    }

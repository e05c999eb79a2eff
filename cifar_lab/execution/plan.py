"""The plan of an ablation at a scale on some data: its cells, their states, and estimates of the remaining time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.lineage import lineages
from cifar_lab.config.distillation_config import why_no_teacher
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.scale import Scale
from cifar_lab.data.dataset import Dataset
from cifar_lab.errors import DamageError, UsageError
from cifar_lab.execution.resolved_recipes import make_recipes
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
    """Fingerprints of the cells that it needs: that whose weights it starts from, its teachers, and what these need."""
    teacher_macs: int = 0
    """Multiply-accumulates of the teachers' forward passes of one image; 0 without teachers, or if unknown."""

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
        RecipeError: an augmentation of a user fails, or returns images of another shape or type.
    """
    overrides, cells = make_cells(
        ablation, scale=scale, images=dataset.shape, data_hash=dataset.hash, runs=runs, overrides=overrides or {},
        variants=variants, seeds=seeds, max_params=max_params,
    )  # fmt: skip
    if any(cell.recipe.data.augmentations for cell in cells):
        from cifar_lab.train.own_code import require_augmentations

        require_augmentations((cell.recipe for cell in cells), dataset.shape.side)
    return Plan(ablation=ablation, scale=scale, source=source, dataset=dataset, overrides=overrides, cells=cells)


def make_cells(
    ablation: Ablation, *, scale: Scale, images: ImageShape, data_hash: str, runs: Path, overrides: Mapping[str, Any],
    variants: list[str] | None, seeds: tuple[int, ...] | None, max_params: int,
) -> tuple[dict[str, Any], tuple[PlannedCell, ...]]:  # fmt: skip
    """Resolve every cell for images of a shape and a hash; return the overrides as recipes hold them, and the cells.

    Raises:
        UsageError, BudgetError: as `make_plan`.
    """
    declared, recipes = make_recipes(
        ablation, scale=scale, overrides=overrides, variants=variants, max_params=max_params, images=images
    )
    names, lineage = list(declared), lineages(ablation, recipes)
    as_held = declared[names[0]].flat()
    made: dict[tuple[str, int], PlannedCell] = {}

    def place(name: str, seed: int) -> PlannedCell:
        """Return the cell of a variant and a seed, after making those that it needs."""
        if (name, seed) not in made:
            variant, taught = ablation.variant(name), recipes[name].train.distill.weight > 0
            parent = place(variant.continues, seed) if variant.continues else None
            teachers = [
                place(teacher, its)
                for teacher in variant.teachers
                if taught
                for its in variant.teacher_seeds or (seed,)
            ]
            made[name, seed] = _cell(
                name, seed, declared[name], recipes[name], lineage[name], images, data_hash, runs, parent, teachers
            )
        return made[name, seed]

    for seed in seeds if seeds is not None else ablation.seeds:
        for name in names:
            place(name, seed)
    # 1 and 1.0 are the same value if the field is a float
    return {path: as_held[path] for path in overrides}, tuple(made.values())


def _cell(
    name: str, seed: int, declared: Recipe, recipe: Recipe, lineage: str, images: ImageShape, data_hash: str,
    runs: Path, parent: PlannedCell | None, teachers: Sequence[PlannedCell],
) -> PlannedCell:  # fmt: skip
    """Return a cell with the fingerprints of its parent and its teachers in its recipe."""
    if teachers:
        recipe = recipe.override({"train.distill.teacher": [teacher.fingerprint for teacher in teachers]})
    if parent is not None:
        recipe = recipe.override({"init_from": parent.fingerprint})
    fingerprint = recipe.fingerprint(seed=seed, data_hash=data_hash)
    needed = [*([parent] if parent is not None else []), *teachers]
    return PlannedCell(
        variant=name,
        seed=seed,
        declared=declared,
        recipe=recipe,
        fingerprint=fingerprint,
        state=CellRecord(runs / fingerprint).state(),
        lineage=lineage,
        images=images,
        needs=tuple(dict.fromkeys(name for each in needed for name in (each.fingerprint, *each.needs))),
        teacher_macs=(
            sum(each.cost.work for each in teachers) if teachers else _typed_teachers_macs(recipe, runs, data_hash)
        ),
    )


def _typed_teachers_macs(recipe: Recipe, runs: Path, data_hash: str) -> int:
    """Return the multiply-accumulates of teachers that `recipe` names by their fingerprints; 0 for unknown ones.

    Raises:
        UsageError: there is no such cell, or it cannot be a teacher.
    """
    macs = 0
    for fingerprint in recipe.teachers:
        said = f"train.distill.teacher={fingerprint}"
        try:
            cell = CellRecord(runs / fingerprint).cell()
            teacher = cell.recipe.resolve() if cell is not None else None
        except (DamageError, ValidationError):  # its student is not begun, or fails, and says why
            continue
        if cell is None or teacher is None:
            raise UsageError(f"{said}: no such cell in {runs}")
        if (why := why_no_teacher(teacher, recipe, same_images=cell.data.hash == data_hash)) is not None:
            raise UsageError(f"{said} cannot be the teacher: {why}")
        macs += cell.macs or 0
    return macs


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
        "teacher_macs": cell.teacher_macs,
    }

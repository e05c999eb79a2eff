"""The plan: which cells an ablation has, at a scale, on some data; which of them are done; what the rest will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_lab.ablation import Ablation
from cifar_lab.data.dataset import Dataset
from cifar_lab.errors import BudgetError, UsageError
from cifar_lab.models.budget import BUDGET, LARGEST, cost, require_within, rounded_up
from cifar_lab.overrides import parse_number
from cifar_lab.recipe import DRAWS, Recipe
from cifar_lab.report.comparison import MIXED
from cifar_lab.scale import Scale, require_distinct
from cifar_lab.tracking.record import Record, State, remedy

MOST_SEEDS = 1000
BY_HAND = "train"
"""Name of the study that `cifar-lab train` makes of one recipe."""


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


def make_recipes(
    ablation: Ablation, *, scale: Scale, overrides: Mapping[str, Any], variants: list[str] | None, max_params: int
) -> tuple[dict[str, Recipe], dict[str, Recipe]]:
    """Return the recipes of the variants as declared, and as trained at `scale`; each stage behind those it needs.

    It takes no images, so that whatever is wrong with a recipe is refused before any are fetched.

    Raises:
        UsageError: an unknown variant, an override that does not fit, two variants that coincide at this scale.
        BudgetError: a declared network is over `max_params` and does not say so.
    """
    chosen = variants or [variant.name for variant in ablation.variants]
    names = _with_ancestors(ablation, [ablation.variant(name).name for name in dict.fromkeys(chosen)])
    declared = {name: ablation.recipe(name).override(overrides) for name in names}
    for name, recipe in declared.items():
        _require_budget(ablation, name, recipe, max_params)
    recipes = {name: scale.apply(ablation.recipe(name)).override(overrides) for name in names}
    require_distinct(recipes, scale, {name: ablation.variant(name).continues for name in names})
    return declared, recipes


def _with_ancestors(ablation: Ablation, names: list[str]) -> list[str]:
    """`names`, each behind the stages that it needs; a stage that is needed joins the plan by itself."""
    lines = ([*reversed(ablation.ancestors(name)), name] for name in names)
    return list(dict.fromkeys(name for line in lines for name in line))


def _require_budget(ablation: Ablation, name: str, recipe: Recipe, limit: int) -> None:
    what = f"{ablation.name}: {'recipe' if ablation.name == BY_HAND else 'variant'} '{name}'"
    if ablation.variant(name).over_budget or limit > LARGEST:
        require_within(what, recipe.model, LARGEST)
        return
    try:
        require_within(what, recipe.model, limit)
    except BudgetError as error:
        allow = f"--max-params {rounded_up(cost(recipe.model).parameters)} allows it"
        declare = "" if ablation.name == BY_HAND else "; a variant that is meant to be declares over_budget=True"
        raise BudgetError(f"{error}; {allow}{declare}") from None


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


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0-4` or `0,2,5` or both, `0-2,7`.

    Raises:
        UsageError: something else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        begin, end = parse_number(first), parse_number(last if dash else first)
        if begin is None or end is None or end < begin:
            raise UsageError(f"--seeds reads 0-4 or 0,2,5, got '{text}'")
        if len(seeds) + end - begin >= MOST_SEEDS:
            raise UsageError(f"--seeds takes {MOST_SEEDS} seeds at most, got '{text}'")
        seeds += range(begin, end + 1)
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"--seeds names a seed twice: '{text}'")
    return tuple(seeds)


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

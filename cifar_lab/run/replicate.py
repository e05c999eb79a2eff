"""What a cell of a setting left on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.errors import DamageError
from cifar_lab.run.execution import THEN, what_rounds
from cifar_lab.stats.convergence import rise
from cifar_lab.stats.decide import CHANCE
from cifar_lab.stats.replicates import differences
from cifar_lab.tracking.invocation import Asked
from cifar_lab.tracking.journal import read_points
from cifar_lab.tracking.record import Record, State

NEEDED = ("recipe.train.protocol", "execution")
"""Of `cell.json`: without these a cell cannot be put beside others."""


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One cell as it was found."""

    asked: Asked
    state: State
    cell: dict[str, Any] | None
    """`cell.json`, once it was begun."""
    result: dict[str, Any] | None
    """`result.json`, once it came to its end."""
    rise: float | None
    """What the last tenth of its epochs still brought, if it was finished and had two epochs at least."""
    damage: str | None = None
    """The file of its record that is damaged, with the rule that it breaks; then nothing of the record is used."""

    @property
    def metrics(self) -> dict[str, float]:
        """Of a cell that was finished; a diverged one has none that could be compared."""
        return self.result["metrics"] if self.result is not None and self.state == "finished" else {}


def read(cells: Iterable[Asked], runs: Path) -> list[Replicate]:
    """Return the cells as they lie in `runs` now; of a damaged one nothing but the damage."""
    return [_read(asked, Record(runs / asked.fingerprint)) for asked in cells]


def _read(asked: Asked, record: Record) -> Replicate:
    try:
        state, damage = record.look()
        if damage is not None:
            raise DamageError(damage)
        cell = record.cell(*NEEDED)
        result = record.result() if state in {"finished", "diverged"} else None
        last = _rise(record, result["metrics"]) if result is not None and state == "finished" else None
    except DamageError as error:
        return Replicate(asked=asked, state="damaged", cell=None, result=None, rise=None, damage=str(error))
    return Replicate(asked=asked, state=state, cell=cell, result=result, rise=last)


def _rise(record: Record, metrics: dict[str, float]) -> float | None:
    """Return it from the result, or from the journal of a cell that was finished before results held it."""
    if "rise" in metrics:
        return metrics["rise"]
    points = read_points(record.folder)
    curves = ([p.values[name] for p in points if name in p.values] for name in ("val/acc", "test/acc"))
    return next((rise(curve) for curve in curves if curve), None)


def by_seed(replicates: Iterable[Replicate], *keys: str) -> dict[int, float]:
    """The metric, under whichever of its names, of the cells that were finished and have it."""
    found = {each.asked.seed: each.metrics[key] for each in replicates for key in keys if key in each.metrics}
    return dict(sorted(found.items()))


def with_guesses(replicates: Iterable[Replicate], *keys: str) -> dict[int, float]:
    """Return the metric by seed, with the accuracy of guessing for each cell that diverged."""
    found = list(replicates)
    guesses = {each.asked.seed: CHANCE for each in found if each.state == "diverged"}
    return dict(sorted({**guesses, **by_seed(found, *keys)}.items()))


def differences_at_chance(own: Iterable[Replicate], theirs: Iterable[Replicate], *keys: str) -> dict[int, float]:
    """Return the differences, own less theirs, of seeds in which one of the two diverged: it counts as guessing.

    Seeds in which both diverged, or the other one has no number, say nothing.
    """
    own, theirs = list(own), list(theirs)
    mine, others = by_seed(own, *keys), by_seed(theirs, *keys)
    every = differences(with_guesses(own, *keys), with_guesses(theirs, *keys))
    return {seed: value for seed, value in every.items() if (seed in mine) != (seed in others)}


def are_executed_alike(replicates: Iterable[Replicate]) -> bool:
    """Return whether the cells that were begun ran on one kind of device, one model of GPU, and so on.

    A precision that the recipe names is a factor, which `compare` is to show; one that the device chose is not. A cell
    that was resumed on another model of GPU is not alike by itself.
    """
    begun = [each.cell for each in replicates if each.cell is not None]
    chosen = [cell["execution"] for cell in begun if cell["recipe"]["train"].get("precision", "auto") == "auto"]
    rounds = [what_rounds(cell["execution"]) for cell in begun]
    models = {model for each in rounds for model in str(each["gpu"]).split(THEN)}
    others = {_text({**each, "precision": None, "gpu": None}) for each in rounds}
    return max(map(len, (models, others, {str(each.get("precision")) for each in chosen}))) <= 1


def _text(tree: dict[str, Any]) -> str:
    """Return one text for equal trees, whatever the order of their fields."""
    return str(sorted(tree.items()))


def group(replicates: Iterable[Replicate]) -> dict[str, list[Replicate]]:
    """By variant."""
    found: dict[str, list[Replicate]] = {}
    for each in replicates:
        found.setdefault(each.asked.variant, []).append(each)
    return found

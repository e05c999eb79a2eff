"""Comparison of two cells: recipe, execution, code, environment, results and predictions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from cifar_lab.config.identity import active
from cifar_lab.config.recipe import leaves
from cifar_lab.errors import DamageError, RecipeError, TrackingError
from cifar_lab.results.stats.mcnemar import Disagreement, compare_networks
from cifar_lab.store import checksum
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_events
from cifar_lab.store.journal_events import AttemptEvent
from cifar_lab.store.record_files import CellFile, DataIdentity, StoredRecipe
from cifar_lab.train.cell_artifacts import read_predictions

NOT_BY_IMAGE = "not compared image by image"
ABSENT = "—"
"""Placeholder for a value that one of the two does not have, or that has no effect there."""


@dataclass(frozen=True)
class DiffRow:
    """One item that differs; results are listed even if equal."""

    path: str
    a: Any
    b: Any
    is_measured: bool = False

    @property
    def difference(self) -> float | None:
        """Measured value of b minus that of a; None for values that are no measurements, such as a seed."""
        numbers = all(isinstance(value, int | float) for value in (self.a, self.b))
        return self.b - self.a if numbers and self.is_measured else None

    def as_dict(self) -> dict[str, Any]:
        a, b = (None if value == ABSENT else value for value in (self.a, self.b))
        return {"path": self.path, "a": a, "b": b, "difference": self.difference}


@dataclass(frozen=True, kw_only=True)
class CellDiff:
    """Comparison of two cells by section; an empty section means that they are equal there."""

    a: CellRecord
    b: CellRecord
    sections: dict[str, list[DiffRow]]
    """Rows by section: recipe, seed and data, execution, code, environment, result."""
    code_diff: str
    """Unified diff of the uncommitted changes, if they differ."""
    unfinished: dict[str, str]
    """State by fingerprint, for cells without a result."""
    images: Disagreement | None = None
    """Comparison of the predictions per test image, if both cells have predictions of the same images."""
    images_reason: str | None = None
    """Reason why the predictions were not compared."""

    def as_dict(self) -> dict[str, Any]:
        sections = {name.replace(" ", "_"): [row.as_dict() for row in rows] for name, rows in self.sections.items()}
        cells = {"a": self.a.fingerprint, "b": self.b.fingerprint}
        images = asdict(self.images) if self.images is not None else None
        return {**cells, **sections, "code_diff": self.code_diff, "unfinished": self.unfinished, "images": images,
                "images_reason": self.images_reason}  # fmt: skip


def compare_cells(a: CellRecord, b: CellRecord) -> CellDiff:
    """Compare the cells `a` and `b`.

    Raises:
        TrackingError: one of them was never started.
        DamageError: a file of one of them is damaged.
    """
    for record in (a, b):
        record.require_sound(record.journal, record.code_diff)
    cells = [_cell(record) for record in (a, b)]
    sections = {
        "recipe": _recipe_rows(cells[0].recipe, cells[1].recipe),
        "seed and data": _rows(*({"seed": cell.seed, "data": cell.data.as_json()} for cell in cells)),
        "execution": _rows(*(cell.execution.with_defaults() for cell in cells)),
        "code": _rows(*(_code(cell, record) for cell, record in zip(cells, (a, b), strict=True))),
        "environment": _rows(*(_environment(cell) for cell in cells)),
        "result": _result_rows(_outcome(a), _outcome(b)),
    }
    unfinished = {record.fingerprint: record.state() for record in (a, b) if record.result() is None}
    reason = _not_by_image((a, b), [cell.data for cell in cells])
    return CellDiff(
        a=a, b=b, sections=sections, code_diff=_code_diff(a, b), unfinished=dict(unfinished),
        images=_by_image(a, b) if reason is None else None, images_reason=reason,
    )  # fmt: skip


def _cell(record: CellRecord) -> CellFile:
    cell = record.cell()
    if cell is None:
        raise TrackingError(f"{record.fingerprint[:12]} was never begun: there is nothing to compare")
    return cell


def _not_by_image(records: tuple[CellRecord, CellRecord], data: list[DataIdentity]) -> str | None:
    """Return the reason why the two cannot be compared image by image; None if they can.

    Equal labels do not imply equal images: two data sets may have the same classes in the same order.
    """
    without = [letter for letter, record in zip("ab", records, strict=True) if not record.fetch(record.predictions)]
    if without:
        whose = f" of {without[0]}" if len(without) == 1 else ""
        return f"no predictions stored{whose}: {NOT_BY_IMAGE}"
    if data[0].hash != data[1].hash:
        names = " and ".join(f"{each.name} ({each.hash[:12]})" for each in data)
        return f"other images, {names}: {NOT_BY_IMAGE}"
    one, other = (read_predictions(record)[1] for record in records)
    return None if np.array_equal(one, other) else f"other labels for the same data: {NOT_BY_IMAGE}"


def _by_image(a: CellRecord, b: CellRecord) -> Disagreement:
    (one, labels), (other, _) = read_predictions(a), read_predictions(b)
    return compare_networks(one == labels, other == labels)


def _rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[DiffRow]:
    """Return the leaves that differ, by dotted path."""
    left, right = dict(leaves(a)), dict(leaves(b))
    pairs = ((path, left.get(path, ABSENT), right.get(path, ABSENT)) for path in {**left, **right})
    return [DiffRow(path, one, other) for path, one, other in pairs if one != other]


def _result_rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[DiffRow]:
    """Return the results of both side by side, accuracies first, equal or not; empty if all are equal."""
    keys = sorted({**a, **b}, key=lambda key: (key not in {"status", "epoch"}, not key.endswith("acc"), key))
    return [DiffRow(key, a.get(key, ABSENT), b.get(key, ABSENT), is_measured=True) for key in keys] if a != b else []


def _recipe_rows(a: StoredRecipe, b: StoredRecipe) -> list[DiffRow]:
    """Return the recipe paths that differ, with the values as written; fields without effect are left out.

    A path counts as equal if either its value as written or its canonical form is: a kernel of 3 and one of 3 in each
    layer, or a kernel of 3 in three layers and in four. If this version cannot read one of the recipes, or code that it
    names is not there any more, both are compared as they were written.
    """
    try:
        (left, left_flat), (right, right_flat) = (_read_recipe(recipe) for recipe in (a, b))
    except (ValidationError, RecipeError):
        return _rows(a.tree, b.tree)
    rows = []
    for path in [path for path in {**left_flat, **right_flat} if path in left or path in right]:
        one = left_flat.get(path) if path in left else ABSENT
        other = right_flat.get(path) if path in right else ABSENT
        if one != other and left.get(path, ABSENT) != right.get(path, ABSENT):
            rows.append(DiffRow(path, one, other))
    return rows


def _read_recipe(stored: StoredRecipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the active and all fields by path.

    Raises:
        ValidationError: this version cannot read the recipe.
        RecipeError: a user's code that it names is not there.
    """
    recipe = stored.resolve()
    return dict(leaves(active(recipe, neutral=True))), recipe.flat()


def _code(cell: CellFile, record: CellRecord) -> dict[str, object]:
    """Return the commits that the cell was trained at; a resumed cell may have several."""
    attempts = (event for event in read_events(record.folder) if isinstance(event, AttemptEvent))
    resumed = (attempt.provenance.git_commit for attempt in attempts)
    commits = [commit for commit in dict.fromkeys([cell.provenance.git_commit, *resumed]) if commit]
    named = {"commit": " then ".join(commits) or "not a checkout", "dirty": bool(cell.provenance.git_dirty)}
    return {**named, "numerics": cell.numerics}


def _environment(cell: CellFile) -> dict[str, object]:
    return {"versions": cell.provenance.versions, "hardware": cell.provenance.hardware.as_json()}


def _outcome(record: CellRecord) -> dict[str, object]:
    result = record.result()
    return {} if result is None else {"status": result.status, "epoch": result.epoch, **result.metrics}


def _code_diff(a: CellRecord, b: CellRecord) -> str:
    texts = [_text(record.code_diff) for record in (a, b)]
    old, new = (f"{record.fingerprint[:12]}/{record.code_diff.name}" for record in (a, b))
    left, right = (text.splitlines() for text in texts)
    return "\n".join(difflib.unified_diff(left, right, old, new, lineterm=""))


def _text(path: Path) -> str:
    try:
        return checksum.content(path).decode(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DamageError(f"{path}: cannot be read ({error.strerror or error})") from error

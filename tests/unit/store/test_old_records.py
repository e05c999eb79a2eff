"""Records of every earlier format are read: what they have, and defaults for the fields that came later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.results.cell_results import are_executed_alike, read_cell_results
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import read_invocation
from cifar_lab.store.record_files import FailureFile, OwnerFile
from cifar_lab.store.stored_json import StoredJson, parse_stored, read_stored

OLD = Path(records.__file__).parent / "old_records"
"""Real records of earlier versions: one cell and one note of each format."""
CELLS = sorted(path for path in OLD.iterdir() if path.name != "invocations")
NOTES = sorted((OLD / "invocations").iterdir())
FIRST_FAILURE = {"error": "RuntimeError: no", "trace": "Traceback"}
FIRST_OWNER = {"host": "here", "pid": 7, "time": 1}


def content(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(path.read_text())
    return tree


@pytest.mark.parametrize("folder", CELLS, ids=lambda folder: folder.name[:8])
def test_a_cell_of_an_earlier_format_is_read_whole(folder: Path) -> None:
    record = CellRecord(folder)
    cell, result = record.cell(), record.result()
    assert cell is not None
    assert result is not None
    assert (cell.as_json(), result.as_json()) == (content(folder / "cell.json"), content(folder / "result.json"))
    assert (cell.execution.graph, cell.execution.gpu, result.files) == (False, None, {})
    assert cell.recipe.resolve().train.epochs == cell.recipe.train.epochs
    assert record.state() == "finished"


@pytest.mark.parametrize("path", NOTES, ids=lambda path: path.stem)
def test_a_note_of_an_earlier_format_is_read_whole(path: Path) -> None:
    note = read_invocation(path)
    assert note is not None
    written = content(path)
    read = {name: value for name, value in note.as_json().items() if name in written}
    # fields that notes have had since there are steps of two passes, and teachers
    added = {"passes": 1, "teachers": [], "teacher_macs": 0}
    assert read["cells"] == [{**cell, **added} for cell in written["cells"]]
    assert read | {"cells": written["cells"]} == written
    assert (note.design, note.stopping) == (None, None)


def test_cells_of_all_formats_are_compared() -> None:
    names = [folder.name for folder in CELLS]
    results = read_cell_results((records.cell_ref(name) for name in names), OLD)
    assert {result.state for result in results} == {"finished"}
    assert are_executed_alike(results)
    assert all(result.metrics["test/acc"] > 0.5 for result in results)


@pytest.mark.parametrize(("model", "tree"), [(FailureFile, FIRST_FAILURE), (OwnerFile, FIRST_OWNER)])
def test_the_first_failures_and_owners_had_fewer_fields(model: type[StoredJson], tree: dict[str, Any]) -> None:
    assert parse_stored(tree, model, "").as_json() == tree


def test_a_field_of_a_later_version_survives_that_an_earlier_one_writes_the_file_again(tmp_path: Path) -> None:
    record = records.begin(CellRecord(tmp_path / ("a" * 64)))
    later = {**content(record.folder / "cell.json"), "weather": "fine"}
    del later["sha256"]
    (record.folder / "cell.json").write_text(json.dumps(later))
    cell = record.cell()
    assert cell is not None
    record.write_cell(cell.executed_as(records.CPU))
    again = read_stored(record.folder / "cell.json", type(cell))
    assert again is not None
    assert again.as_json()["weather"] == "fine"

"""Comparison of two cells, section by section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import records

from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import TrackingError
from cifar_lab.inspect.diff_cells import ABSENT, CellDiff, compare_cells
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal
from cifar_lab.store.record_files import Hardware, Provenance

CPU = {"device": "cpu", "threads": 2, "precision": "fp32", "compile": False}
PROVENANCE = Provenance(
    git_commit="a" * 40, git_dirty=False, versions={"torch": "2.9"}, hardware=Hardware(cores=2, gpus=())
)


@pytest.fixture
def cells(tmp_path: Path) -> tuple[CellRecord, CellRecord]:
    """Two cells with one recipe, begun alike."""
    found = (CellRecord(tmp_path / ("a" * 64)), CellRecord(tmp_path / ("b" * 64)))
    for record in found:
        write(record)
    return found


def write(record: CellRecord, diff: dict[str, Any] | None = None, **changed: Any) -> None:
    fields = {"recipe": Recipe().override(diff or {}), "execution": CPU, "provenance": PROVENANCE}
    records.begin(record, **(fields | changed))


def finish(record: CellRecord, **metrics: float) -> None:
    records.end(record, metrics, epoch=3)


def section(found: CellDiff, name: str) -> dict[str, tuple[Any, Any]]:
    return {row.path: (row.a, row.b) for row in found.sections[name]}


def recipes(cells: tuple[CellRecord, CellRecord], a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    for record, diff in zip(cells, (a, b), strict=True):
        write(record, diff)
    return section(compare_cells(*cells), "recipe")


def test_cells_that_are_alike_differ_in_no_section(cells: tuple[CellRecord, CellRecord]) -> None:
    for record in cells:
        finish(record, **{"test/acc": 0.9})
    found = compare_cells(*cells)
    assert not any(found.sections.values())
    assert (found.code_diff, found.unfinished) == ("", {})


def test_a_recipe_differs_by_path_and_what_has_no_effect_is_left_out(cells: tuple[CellRecord, CellRecord]) -> None:
    assert recipes(cells, {"model.dropout": 0.2}, {}) == {"model.dropout": (0.2, 0.0)}
    off = {"model.se.placement": "none"}
    assert recipes(cells, {**off, "model.se.reduction": 4}, off) == {}
    assert recipes(cells, off, {"model.se.reduction": 4}) == {
        "model.se.placement": ("none", "stem"),
        "model.se.reduction": (ABSENT, 4),
    }


def test_a_value_that_a_fingerprint_leaves_out_is_shown(cells: tuple[CellRecord, CellRecord]) -> None:
    assert recipes(cells, {}, {"model.activation": "gelu"}) == {"model.activation": ("relu", "gelu")}
    assert recipes(cells, {"optim.sam.rho": 0.05}, {}) == {
        "optim.sam.rho": (0.05, 0.0),
        "optim.sam.adaptive": (False, ABSENT),
    }


def test_one_value_written_in_two_ways_is_the_same(cells: tuple[CellRecord, CellRecord]) -> None:
    assert recipes(cells, {"model.kernel": 3}, {"model.kernel": (3, 3, 3)}) == {}
    assert set(recipes(cells, {}, {"model.blocks": (2, 2, 2, 2)})) == {"model.blocks"}


def test_a_recipe_of_another_version_is_compared_as_it_stands(cells: tuple[CellRecord, CellRecord]) -> None:
    tree = Recipe().model_dump(mode="json")
    write(cells[0], recipe={**tree, "forgotten": 1})
    assert section(compare_cells(*cells), "recipe") == {"forgotten": (1, ABSENT)}


def test_recipes_whose_code_is_not_there_any_more_are_compared_as_they_stand(
    cells: tuple[CellRecord, CellRecord],
) -> None:
    for record, width in zip(cells, (8, 16), strict=True):
        recipe = json.loads(Recipe().model_dump_json())
        recipe["model"] |= {"name": "package_that_is_gone:net", "options": {"width": width}}
        write(record, recipe=recipe)
    assert section(compare_cells(*cells), "recipe") == {"model.options": ({"width": 8}, {"width": 16})}


def test_seed_execution_environment_and_code_have_a_section_each(cells: tuple[CellRecord, CellRecord]) -> None:
    other = Provenance(
        git_commit="b" * 40, git_dirty=True, versions={"torch": "2.9"}, hardware=Hardware(cores=64, gpus=("H100",))
    )
    write(cells[1], seed=1, execution={**CPU, "device": "cuda"}, provenance=other)
    found = compare_cells(*cells)
    assert section(found, "seed and data") == {"seed": (0, 1)}
    assert section(found, "execution") == {"device": ("cpu", "cuda")}
    assert section(found, "environment") == {"hardware.cores": (2, 64), "hardware.gpus": ([], ["H100"])}
    assert section(found, "code") == {"commit": ("a" * 40, "b" * 40), "dirty": (False, True)}
    assert all(row.difference is None for rows in found.sections.values() for row in rows)


def test_a_cell_that_was_resumed_by_other_code_names_both_commits(cells: tuple[CellRecord, CellRecord]) -> None:
    Journal(cells[1].folder).write("resume", epoch=1, step=0, provenance={"git_commit": "c" * 40})
    assert section(compare_cells(*cells), "code") == {"commit": ("a" * 40, f"{'a' * 40} then {'c' * 40}")}


def test_changes_that_were_not_committed_come_as_one_unified_diff(cells: tuple[CellRecord, CellRecord]) -> None:
    cells[0].code_diff.write_text("+x = 1\n")
    cells[1].code_diff.write_text("+x = 2\n")
    lines = compare_cells(*cells).code_diff.splitlines()
    assert "-+x = 1" in lines
    assert "++x = 2" in lines
    cells[1].code_diff.write_text("+x = 1\n")
    assert compare_cells(*cells).code_diff == ""


def test_results_stand_side_by_side_with_their_difference(cells: tuple[CellRecord, CellRecord]) -> None:
    finish(cells[0], **{"test/acc": 0.90, "seconds": 60.0, "val/acc": 0.8})
    finish(cells[1], **{"test/acc": 0.92, "seconds": 60.0})
    rows = {row.path: row for row in compare_cells(*cells).sections["result"]}
    assert rows["test/acc"].difference == pytest.approx(0.02)
    assert rows["seconds"].difference == 0
    assert (rows["val/acc"].b, rows["val/acc"].difference) == (ABSENT, None)


def test_a_cell_without_a_result_is_named_and_json_has_null_for_what_is_not_there(
    cells: tuple[CellRecord, CellRecord],
) -> None:
    finish(cells[0], **{"test/acc": 0.90})
    found = compare_cells(*cells)
    assert found.unfinished == {"b" * 64: "missing"}
    tree = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert {"path": "test/acc", "a": 0.90, "b": None, "difference": None} in tree["result"]
    assert {"recipe", "seed_and_data", "execution", "code", "environment", "result"} <= set(tree)


def test_a_cell_that_was_never_begun_is_refused(cells: tuple[CellRecord, CellRecord], tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="never begun"):
        compare_cells(cells[0], CellRecord(tmp_path / ("c" * 64)))


# Image by image


def predict(record: CellRecord, predictions: list[int], labels: list[int]) -> None:
    np.savez(record.predictions, predictions=np.array(predictions, np.uint8), labels=np.array(labels, np.uint8))


def test_two_networks_are_compared_on_each_image(cells: tuple[CellRecord, CellRecord]) -> None:
    predict(cells[0], [0, 1, 2, 3], [0, 1, 0, 0])
    predict(cells[1], [0, 1, 0, 0], [0, 1, 0, 0])
    found = compare_cells(*cells).images
    assert found is not None
    assert (found.images, found.only_a, found.only_b, found.difference) == (4, 0, 2, 0.5)
    assert compare_cells(*cells).as_dict()["images"]["p_value"] == 0.5


def test_networks_without_predictions_or_on_other_images_are_not(cells: tuple[CellRecord, CellRecord]) -> None:
    assert compare_cells(*cells).images is None
    predict(cells[0], [0, 1], [0, 1])
    assert compare_cells(*cells).images is None
    predict(cells[1], [0, 1], [1, 1])
    assert compare_cells(*cells).images is None
    assert compare_cells(*cells).as_dict()["images"] is None


def test_without_predictions_it_says_that_none_are_stored(cells: tuple[CellRecord, CellRecord]) -> None:
    assert compare_cells(*cells).images_reason == "no predictions stored: not compared image by image"
    predict(cells[0], [0, 1], [0, 1])
    assert compare_cells(*cells).images_reason == "no predictions stored of b: not compared image by image"
    predict(cells[1], [0, 1], [0, 1])
    assert compare_cells(*cells).images_reason is None


def test_other_images_with_the_same_labels_are_not_compared_and_it_says_why(
    cells: tuple[CellRecord, CellRecord],
) -> None:
    write(cells[1], data=records.CIFAR10)
    for record in cells:
        predict(record, [0, 1], [0, 1])
    found = compare_cells(*cells)
    assert found.images is None
    expected = "other images, synthetic (dddddddddddd) and CIFAR-10 (cccccccccccc): not compared image by image"
    assert found.as_dict()["images_reason"] == expected


def test_other_labels_of_one_data_set_are_said_too(cells: tuple[CellRecord, CellRecord]) -> None:
    predict(cells[0], [0, 1], [0, 1])
    predict(cells[1], [0, 1], [1, 1])
    assert compare_cells(*cells).images_reason == "other labels for the same data: not compared image by image"


# What is damaged


def test_predictions_that_are_damaged_are_one_line_that_names_the_file(cells: tuple[CellRecord, CellRecord]) -> None:
    predict(cells[1], [0, 1], [0, 1])
    cells[0].predictions.write_bytes(b"PK half of it")
    with pytest.raises(TrackingError, match=r"a/predictions\.npz: cannot be read") as refusal:
        compare_cells(*cells)
    assert "\n" not in str(refusal.value)
    predict(cells[0], [0, 1, 1], [0, 1])
    with pytest.raises(TrackingError, match="damaged: not one prediction for each label"):
        compare_cells(*cells)


def test_a_cell_without_what_is_set_side_by_side_is_refused(cells: tuple[CellRecord, CellRecord]) -> None:
    tree = records.cell_file(cells[0].fingerprint).as_json()
    tree["data"] = {"name": "synthetic", "kind": "synthetic"}
    (cells[0].folder / "cell.json").write_text(json.dumps(tree))
    with pytest.raises(TrackingError, match=r"cell\.json: damaged: 'data\.hash' is missing"):
        compare_cells(*cells)

"""A damaged record is named by file and rule in every command that reads it, and holds up no other cell."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.cli import run
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.store.cell_record import CellRecord

METRICS = {"test/acc": 0.9, "seconds": 60.0, "images_seen": 1000.0}
RESULT: dict[str, Any] = {"status": "finished", "epoch": 3, "step": None, "time": 1, "metrics": METRICS}
DAMAGES = {
    "no object": ("result.json", [], "[] is not an object"),
    "no metrics": ("result.json", {**RESULT, "metrics": None}, "'metrics' is null, not an object"),
    "without metrics": ("result.json", {k: v for k, v in RESULT.items() if k != "metrics"}, "'metrics' is missing"),
    "NaN": ("result.json", {**RESULT, "metrics": {**METRICS, "test/acc": float("nan")}},
            "metric 'test/acc' is nan, not a finite number"),
    "text for a number": ("result.json", {**RESULT, "metrics": {**METRICS, "test/acc": "0.9"}},
                          "metric 'test/acc' is '0.9', not a finite number"),
    "status": ("result.json", {**RESULT, "status": "done"}, "'status' is 'done', not finished or diverged"),
    "epoch": ("result.json", {**RESULT, "epoch": "3"}, "'epoch' is '3', not a whole number"),
    "cell": ("cell.json", [1], "[1] is not an object"),
    "recipe": ("cell.json", {"recipe": 7}, "'recipe' is 7, not an object"),
}  # fmt: skip
CODES = {"compare se_ratio": 1, "report se_ratio": 1, "verify se_ratio": 1, "status se_ratio": 0,
         "failures se_ratio": 1, "diff {first} {second}": 2}  # fmt: skip
"""Exit code beside a damaged record, by command line."""


@pytest.fixture
def cells(folder: Path) -> list[CellRecord]:
    """Two seeds of two variants, finished."""
    asked = []
    for variant in ("r16", "r4"):
        for seed in (0, 1):
            name = hashlib.sha256(f"{variant}/{seed}".encode()).hexdigest()
            asked.append(records.cell_ref(name, variant, seed))
            record = CellRecord(folder / "runs" / name)
            records.begin(record, seed=seed, recipe=EFFICIENT_RESNET, data=records.CIFAR10)
            records.end(record, {**METRICS, "test/acc": 0.9 + seed / 100}, epoch=3)
    records.invocation(*asked).write(folder / "runs")
    return [CellRecord(folder / "runs" / each.fingerprint) for each in asked]


def command(line: str, cells: list[CellRecord]) -> list[str]:
    return line.format(first=cells[0].fingerprint[:12], second=cells[1].fingerprint[:12]).split()


@pytest.mark.parametrize(("line", "code"), CODES.items())
@pytest.mark.parametrize(("file", "tree", "rule"), DAMAGES.values(), ids=DAMAGES.keys())
def test_every_reader_names_the_file_and_the_rule(
    cells: list[CellRecord],
    capsys: pytest.CaptureFixture[str],
    file: str,
    tree: object,
    rule: str,
    line: str,
    code: int,
) -> None:
    (cells[0].folder / file).write_text(json.dumps(tree))
    assert run(command(line, cells)) == code
    captured = capsys.readouterr()
    assert f"{cells[0].folder / file}: damaged: {rule}" in (captured.err + captured.out).replace("\n", "")
    assert "Traceback" not in captured.err


def test_the_other_cells_are_read_beside_a_damaged_one(
    cells: list[CellRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    (cells[0].folder / "result.json").write_text("")
    assert run(["compare", "se_ratio", "--json"]) == 1
    tree = json.loads(capsys.readouterr().out)
    assert {row["variant"]: (row["n"], row["damaged"]) for row in tree["rows"]} == {"r16": (1, 1), "r4": (2, 0)}
    assert tree["damage"][0].startswith(f"r16/s0: {cells[0].folder / 'result.json'}: damaged: empty; ")
    assert f"--redo {cells[0].fingerprint[:12]}" in tree["damage"][0]
    assert run(["status", "se_ratio", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["finished"], tree["damaged"]) == (3, 1)
    assert {cell["fingerprint"]: cell["state"] for cell in tree["cells"]}[cells[0].fingerprint] == "damaged"
    assert run(["failures", "se_ratio", "--json"]) == 1
    (entry,) = json.loads(capsys.readouterr().out)["damaged"]
    assert (entry["variant"], entry["seed"]) == ("r16", 0)


@pytest.mark.parametrize("format", ["md", "csv", "latex"])
def test_a_damaged_cell_is_counted_in_every_format(
    cells: list[CellRecord], capsys: pytest.CaptureFixture[str], format: str
) -> None:
    (cells[0].folder / "result.json").write_text("")
    assert run(["compare", "se_ratio", "--format", format]) == 1
    captured = capsys.readouterr()
    assert "result.json: damaged: empty" in captured.err
    if format != "csv":
        assert "1 damaged" in captured.out


@pytest.mark.parametrize("line", ["compare se_ratio", "verify se_ratio", "report se_ratio"])
def test_a_cell_that_says_nothing_of_its_protocol_cannot_be_put_beside_others(
    cells: list[CellRecord], capsys: pytest.CaptureFixture[str], line: str
) -> None:
    cell = cells[0].cell()
    assert cell is not None
    tree = cell.as_json()
    tree["recipe"] = {"train": {"epochs": 3}}
    (cells[0].folder / "cell.json").write_text(json.dumps(tree))
    assert run(line.split()) == 1
    captured = capsys.readouterr()
    rule = "cell.json: damaged: 'recipe.train.protocol' is missing"
    assert rule in (captured.err + captured.out).replace("\n", "")


READERS = [line for line in CODES if not line.startswith("failures")]


@pytest.mark.parametrize("line", READERS)
def test_a_cell_that_diverged_has_no_accuracy_and_is_not_damaged(
    cells: list[CellRecord], capsys: pytest.CaptureFixture[str], line: str
) -> None:
    records.end(cells[0], {"seconds": 6.0}, status="diverged", step=3)
    assert run(command(line, cells)) == 0
    assert "nan" not in capsys.readouterr().out.split()


def test_a_finished_cell_without_the_metric_is_counted_in_the_note(
    cells: list[CellRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    records.end(cells[3], {"seconds": 60.0}, epoch=3)
    assert run(["compare", "se_ratio", "--format", "md"]) == 0
    assert "1 finished without test/acc" in capsys.readouterr().out


def test_one_damaged_note_stops_nothing_of_other_ablations(
    cells: list[CellRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    note = cells[0].folder.parent / "invocations" / "20261122T220000.000-layers.json"
    note.write_text("[" * 100_000)
    (note.parent / f"._{note.name}").write_bytes(b"\0\5\26\7Mac OS X")
    warning = (
        f"cifar-lab: warning: {note}: damaged: brackets within brackets, too deep to be read; the others are read "
        "(`cifar-lab fsck`)"
    )
    for line in ("compare se_ratio", "status", "verify se_ratio", "failures"):
        assert run(line.split()) == 0
        assert capsys.readouterr().err.splitlines().count(warning) == 1, line

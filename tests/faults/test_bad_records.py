"""A record that is damaged is one line that names the file and the rule, in every command that reads it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.cli import run
from cifar_lab.recipe import EFFICIENT_RESNET
from cifar_lab.tracking.invocation import Asked, Invocation
from cifar_lab.tracking.record import Record

RECIPE = EFFICIENT_RESNET.model_dump(mode="json")
DATA = {"name": "CIFAR-10", "kind": "cifar10", "hash": "c" * 64}
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
READERS = {
    "compare": "compare se_ratio", "report": "report se_ratio", "verify": "verify se_ratio",
    "diff": "diff {first} {second}", "status": "status se_ratio", "status of all": "status",
}  # fmt: skip


@pytest.fixture
def cells(folder: Path) -> list[Record]:
    """Two seeds of two variants, finished."""
    asked = []
    for variant in ("r16", "r4"):
        for seed in (0, 1):
            name = hashlib.sha256(f"{variant}/{seed}".encode()).hexdigest()
            asked.append(Asked(variant=variant, seed=seed, fingerprint=name, recipe=variant, parameters=1,
                               parameters_trained=1, macs=1))  # fmt: skip
            record = Record(folder / "runs" / name)
            record.folder.mkdir(parents=True)
            record.write_cell({"seed": seed, "recipe": RECIPE, "data": DATA, "execution": {"device": "cpu"}})
            record.write_result({**RESULT, "metrics": {**METRICS, "test/acc": 0.9 + seed / 100}})
    Invocation(
        id="20261122T210000.000-se_ratio", ablation="se_ratio", question="?", factors=(), control="r16",
        scale="small", protocol="holdout", data={**DATA, "source": "cifar10"}, overrides={}, cells=tuple(asked),
        command="", execution={},
    ).write(folder / "runs")  # fmt: skip
    return [Record(folder / "runs" / each.fingerprint) for each in asked]


@pytest.mark.parametrize("line", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize(("file", "tree", "rule"), DAMAGES.values(), ids=DAMAGES.keys())
def test_every_reader_names_the_file_and_the_rule(
    cells: list[Record], capsys: pytest.CaptureFixture[str], file: str, tree: object, rule: str, line: str
) -> None:
    (cells[0].folder / file).write_text(json.dumps(tree))
    words = line.format(first=cells[0].fingerprint[:12], second=cells[1].fingerprint[:12]).split()
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{cells[0].folder / file}: damaged: {rule}" in captured.err.replace("\n", "")
    assert not Path("report.html").exists()


@pytest.mark.parametrize("line", ["compare se_ratio", "verify se_ratio", "report se_ratio"])
def test_a_cell_that_says_nothing_of_its_protocol_cannot_be_put_beside_others(
    cells: list[Record], capsys: pytest.CaptureFixture[str], line: str
) -> None:
    (cells[0].folder / "cell.json").write_text("{}")
    assert run(line.split()) == 2
    assert "cell.json: damaged: 'recipe.train.protocol' is missing" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("line", READERS.values(), ids=READERS.keys())
def test_a_cell_that_diverged_has_no_accuracy_and_is_not_damaged(
    cells: list[Record], capsys: pytest.CaptureFixture[str], line: str
) -> None:
    cells[0].write_result({"status": "diverged", "epoch": 1, "step": 3, "time": 1, "metrics": {"seconds": 6.0}})
    words = line.format(first=cells[0].fingerprint[:12], second=cells[1].fingerprint[:12]).split()
    assert run(words) == 0
    assert "nan" not in capsys.readouterr().out.split()


def test_a_finished_cell_without_the_metric_is_counted_in_the_note(
    cells: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    cells[3].write_result({**RESULT, "metrics": {"seconds": 60.0}})
    assert run(["compare", "se_ratio", "--format", "md"]) == 0
    assert "1 finished without test/acc" in capsys.readouterr().out

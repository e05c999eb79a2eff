"""Commands on a running, failed or finished study."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.cli import run
from cifar_lab.store.cell_record import CellRecord


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_study: Path) -> Path:
    """A folder of its own in which `tiny` was run."""
    return Path(shutil.copytree(tiny_study, tmp_path_factory.mktemp("living") / "study"))


@pytest.fixture(autouse=True)
def _there(ran: Path, monkeypatch: pytest.MonkeyPatch, tiny_ablation: Path) -> None:
    monkeypatch.chdir(ran)
    monkeypatch.setenv("CIFAR_LAB_ABLATIONS", str(tiny_ablation))


def _json(capsys: pytest.CaptureFixture[str], *line: str, code: int = 0) -> Any:
    assert run([*line, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def _said(capsys: pytest.CaptureFixture[str], *line: str, code: int = 0) -> str:
    assert run([*line]) == code
    found = capsys.readouterr()
    return found.out + found.err


def _records() -> list[CellRecord]:
    return [CellRecord(path) for path in sorted(Path("runs").resolve().iterdir()) if len(path.name) == 64]


def test_status_shows_every_ablation_and_every_cell_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tiny" in _said(capsys, "status")
    said = _said(capsys, "status", "tiny")
    assert "off/s0" in said
    assert "4 cells: 4 finished" in said
    tree = _json(capsys, "status", "tiny")
    assert {cell["state"] for cell in tree["cells"]} == {"finished"}


def test_an_invocation_is_asked_for_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    (id,) = (path.stem for path in Path("runs/invocations").glob("*.json"))
    for command in ("status", "failures", "verify"):
        _said(capsys, command, "tiny", "--invocation", id)
        assert "no such invocation" in _said(capsys, command, "tiny", "--invocation", "2020", code=2)
    assert "is of one ablation" in _said(capsys, "status", "--invocation", id, code=2)
    _said(capsys, "report", "tiny", "--invocation", id)
    assert "is of one ablation" in _said(capsys, "report", "--all", "--invocation", id, code=2)


def test_a_cell_that_is_trained_now_is_seen_with_its_owner(capsys: pytest.CaptureFixture[str]) -> None:
    record = _records()[0]
    result = (record.folder / "result.json").read_bytes()
    (record.folder / "result.json").unlink()
    try:
        with record.owned(patience=0):
            assert "running" in _said(capsys, "status", "tiny")
    finally:
        (record.folder / "result.json").write_bytes(result)


def test_no_failures_is_said_and_a_failure_comes_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no failures" in _said(capsys, "failures", "tiny")
    record = _records()[0]
    result = (record.folder / "result.json").read_bytes()
    (record.folder / "result.json").unlink()
    try:
        records.fail(record, "RuntimeError: out of memory", "Traceback: here")
        said = _said(capsys, "failures", "tiny", code=1)
        assert "out of memory" in said
        assert "Traceback: here" in said
        assert "--retry-failed" in said
    finally:
        (record.folder / "failure.json").unlink()
        (record.folder / "result.json").write_bytes(result)


def test_tail_tells_a_cell_epoch_by_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "tail", _records()[0].fingerprint[:10])
    assert "tiny" in said
    for epoch in ("1/3", "2/3", "3/3"):
        assert epoch in said
    assert "no such cell" in _said(capsys, "tail", "0000", code=2)


def test_cells_are_named_as_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    cells = {(cell["variant"], cell["seed"]): cell for cell in _json(capsys, "status", "tiny")["cells"]}
    assert _json(capsys, "tail", "tiny/off/s1")["fingerprint"] == cells["off", 1]["fingerprint"]
    assert "model.dropout" in _said(capsys, "diff", "tiny/on/s1", "tiny/off/s1")
    for name, said in [
        ("tiny/off", "'tiny/off' names 2 cells, one is wanted; add a seed of s0, s1"),
        ("tiny/off/s7", "tiny/off has no seed 7; it has s0, s1"),
        ("tiny/of/s1", "tiny has no variant 'of'; did you mean 'off'?"),
        ("tin/off/s1", "'tin' has not been run in"),
    ]:
        assert said in _said(capsys, "tail", name, code=2)


def test_diff_names_what_tells_two_cells_apart_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    cells = _json(capsys, "status", "tiny")["cells"]
    a, b = (cell["fingerprint"][:10] for cell in cells if cell["seed"] == 0)
    said = _said(capsys, "diff", a, b)
    assert "model.dropout" in said
    assert "optim.lr" not in said
    assert re.search(r"test/acc +\d+\.\d\d % +\d+\.\d\d % +[+-]\d+\.\d\d\n", said), "in per cent, and points"
    assert "model.dropout" in json.dumps(_json(capsys, "diff", a, b))


def test_clean_frees_an_abandoned_checkpoint_and_leaves_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to free" in _said(capsys, "clean", "--older-than", "0d")
    record = CellRecord(Path("runs").resolve() / ("0" * 64))
    records.begin(record)
    record.checkpoint.write_bytes(b"x" * 1000)
    assert "1 to free" in _said(capsys, "clean", "--older-than", "0d", "--dry-run")
    assert record.checkpoint.exists()
    assert "-y" in _said(capsys, "clean", "--older-than", "0d", code=2)
    with record.lock():
        _said(capsys, "clean", "--older-than", "0d", "-y")
        assert record.checkpoint.exists(), "what is trained now stays"
    _said(capsys, "clean", "--older-than", "0d", "-y")
    assert not record.checkpoint.exists()
    assert all(other.result() for other in _records() if other.folder != record.folder)
    assert "7d" in _said(capsys, "clean", "--older-than", "soon", code=2)

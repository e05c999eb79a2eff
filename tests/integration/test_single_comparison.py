"""A study of one comparison and two seeds: its variance prior comes from earlier cells of its control, and is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.cli import run
from cifar_lab.results.stats.history_prior import history_interval
from cifar_lab.store.cell_record import CellRecord

ABLATION = '''
"""A dropout, or nothing but seeds."""
from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab import RESNET18

ABLATION = Ablation(
    question="Which?", source="here", baseline=RESNET18.override({"model.width": 32, "model.blocks": (1, 1)}),
    factors=%s, variants=%s, control="plain", seeds=%s,
)
'''
NOISE = (0.501, 0.499, 0.504, 0.497, 0.500, 0.502)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine").mkdir()
    plain, drop = 'Variant(name="plain"),', 'Variant(name="drop", diff={"model.dropout": 0.1})'
    (tmp_path / "mine" / "noise.py").write_text(ABLATION % ("()", f"({plain})", tuple(range(6))))
    (tmp_path / "mine" / "two.py").write_text(ABLATION % ('("model.dropout",)', f"({plain} {drop})", (0, 1)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begin(name: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Run an ablation whose cells are all finished; return these cells."""
    setting = [name, "--ablations", "mine", "--scale", "smoke"]
    assert run(["plan", *setting, "--json"]) == 0
    cells: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["cells"]
    for cell in cells:
        record = CellRecord(Path("runs").resolve() / cell["fingerprint"])
        shift = 0.04 + 0.001 * cell["seed"] if cell["variant"] == "drop" else 0.0
        if cell["state"] == "missing":
            records.begin(record, seed=cell["seed"])
            records.end(record, {"seconds": 1.0, "images_seen": 1.0, "test/acc": NOISE[cell["seed"]] + shift})
    assert run(["run-ablation", *setting, "--offline", "-y"]) == 0
    capsys.readouterr()
    return cells


def compared(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["compare", "two", "--ablations", "mine", "--json"]) == 0
    tree: dict[str, Any] = json.loads(capsys.readouterr().out)
    return tree


def test_a_study_that_begins_after_six_cells_of_its_control_uses_their_variance(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = begin("noise", capsys)
    begin("two", capsys)
    tree = compared(capsys)
    row = tree["rows"][1]
    assert set(tree["prior"]["fingerprints"]) == {cell["fingerprint"] for cell in history}
    expected = history_interval(list(row["differences"].values()), tree["prior"]["variance"], 6)
    assert expected is not None
    assert (row["interval"], row["verdict"]) == (pytest.approx(list(expected.interval)), "better")
    assert run(["compare", "two", "--ablations", "mine"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "variance prior: 6 cells of the control that were finished before this study began (noise)" in shown
    assert history[0]["fingerprint"][:12] in shown
    assert here.exists()


@pytest.mark.slow
def test_a_study_that_began_before_these_cells_keeps_students_interval(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin("two", capsys)
    begin("noise", capsys)
    before = compared(capsys)
    begin("two", capsys)
    after = compared(capsys)
    assert (before["prior"], after["prior"]) == (None, None)
    assert after["rows"][1]["level"] == 0.95
    assert after["rows"][1]["interval"] == before["rows"][1]["interval"]
    assert len(list((here / "runs" / "invocations").iterdir())) == 3

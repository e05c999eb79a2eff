"""Table of each invocation's run: that of its own setting, whatever was requested since."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_lab.mlflow_sync.upload import sync_all


def test_each_setting_has_its_own_table(study: Any, store: Any, runs_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setattr("cifar_lab.report.charts.cell_png.draw_cell_figures", lambda *_: {})
    said: list[str] = []
    for variant, accuracy in {"r4": 0.75, "r16": 0.5}.items():
        study.whole(variant, 0, accuracy=accuracy, more={"seconds": 1.0, "images_seen": 10.0})
    plain = study.invocation(seeds=1)
    assert sync_all(study.runs, said.append)[:2] == (2, 0)
    other = study.invocation(seeds=1, overrides={"optim.lr": 0.05}, time="20260102T000000.000")
    assert sync_all(study.runs, said.append)[:2] == (2, 0)
    assert said == []
    notes = {name: run.data.tags["mlflow.note.content"] for name, run in runs_of("se_ratio", "invocation").items()}
    assert "| r4 | 1 | 75.00 | +25.00 |" in notes[plain.id]
    assert "optim.lr" not in notes[plain.id]
    assert "optim.lr=0.05" in notes[other.id]

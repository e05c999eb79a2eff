"""What every test starts from: its own cache, its own MLflow store, one thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before any test imports numpy or torch: two test processes on two cores must not fight for both.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, runs or store."""
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(home / "cache"))
    monkeypatch.delenv("CIFAR_LAB_RUNS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, as a user would stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

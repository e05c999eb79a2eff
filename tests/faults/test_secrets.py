"""A password in an address is in no file, no log, no message and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made.mlflow_study import Study

from cifar_lab.cli import run

SECRET = "hunter2Hunter2"
ADDRESSES = [
    f"http://joe:{SECRET}@127.0.0.1:9",
    f"http://{SECRET}@127.0.0.1:9",
    f"http://127.0.0.1:9/?api_key={SECRET}",
    f"htp://joe:{SECRET}@127.0.0.1:9",
    f"http://joe:two {SECRET}@127.0.0.1:9",
    f"joe:{SECRET}@127.0.0.1:9",
    f"postgresql+psycopg://joe:{SECRET}@127.0.0.1:9/db",
    f"postgresql+psycopg://127.0.0.1:9/db?password={SECRET}",
    f"postgres://joe:{SECRET}@127.0.0.1:9/db",
    f"sqlite:///nowhere/x.db?password={SECRET}",
]


def _holding(folder: Path) -> list[str]:
    """Return the files under `folder` in which the secret is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if SECRET.encode() in path.read_bytes() or SECRET in path.name]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_failure_tells_a_password_not_even_with_a_traceback(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    (folder / "runs").mkdir()
    study = Study(folder / "runs")
    study.whole()
    study.invocation()
    for command in (["sync"], ["-v", "sync"], ["ui", "--no-open"], ["-v", "ui", "--no-open"]):
        assert run(command) in {1, 2}, command
        printed = "".join(capsys.readouterr())
        assert printed
        assert SECRET not in printed
    assert _holding(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("address", ADDRESSES[:2])
def test_a_training_beside_a_dead_server_writes_the_password_nowhere(
    address: str, tmp_path: Path, tiny_ablation: Path, few_images: Path
) -> None:
    def lab(*words: str, uri: str) -> tuple[int, str]:
        line = [sys.executable, "-m", "cifar_lab", *words]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "CIFAR_LAB_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    asked = ["run-ablation", "tiny", "--ablations", str(tiny_ablation), "--data", str(few_images), "-y"]
    texts = [lab(*asked, "--seeds", "0", "--workers", "1", uri=address), lab(*asked, "--seeds", "0", uri=address)]
    assert [code for code, _ in texts] == [0, 0]
    assert all("verdict" in text for _, text in texts), "the table is there"
    texts.append(lab("doctor", "--device", "cpu", uri=address))
    assert texts[-1][0] == 1
    texts.append(lab("sync", uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert texts[-1][0] == 0
    for _, text in texts:
        assert SECRET not in text
        assert "Traceback" not in text
    assert _holding(tmp_path) == []

"""`mlflow models serve` on a network that was logged and registered: a real request gets the recorded answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from cifar_lab.cli import run
from cifar_lab.data import load
from cifar_lab.inference.stored_cells import load_cells

pytestmark = pytest.mark.slow


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_registered_network_is_served_by_its_alias(folder: Path, few_images: Path, tiny_ablation: Path) -> None:
    line = ["run-ablation", "tiny", "--data", str(few_images), "--ablations", str(tiny_ablation), "--seeds", "0"]
    assert run([*line, "--register", "tiny net@champion", "--json"]) == 0
    port = _free_port()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # mlflow calls uvicorn
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/tiny net@champion"]
    command += ["--env-manager", "local", "--port", str(port)]
    with Path("server.log").open("wb") as log, subprocess.Popen(
        command, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as server:  # fmt: skip
        try:
            logits = _asked(server, f"http://127.0.0.1:{port}", np.array(load(str(few_images)).test_images))
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
    best = max(load_cells(folder / "runs"), key=lambda cell: cell.metrics["val/acc"])
    recorded, _ = best.logits()
    assert logits.shape == recorded.shape
    assert logits == pytest.approx(recorded, abs=0.05)  # the record has half precision, of a training in bf16 perhaps


def _asked(server: subprocess.Popen[bytes], address: str, images: np.ndarray) -> np.ndarray:
    deadline = time.monotonic() + 120
    while True:
        assert server.poll() is None, Path("server.log").read_text()
        assert time.monotonic() < deadline, Path("server.log").read_text()
        try:
            if requests.get(f"{address}/ping", timeout=5).ok:
                break
        except requests.ConnectionError:
            time.sleep(0.5)
    body = json.dumps({"inputs": images.transpose(0, 3, 1, 2).tolist()})
    answer = requests.post(
        f"{address}/invocations", data=body, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert answer.ok, answer.text
    return np.array(answer.json()["predictions"])

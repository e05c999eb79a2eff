"""`cifar-lab ui`: what it prints and refuses, and when it opens a browser. That it serves, the browser tests show."""

from __future__ import annotations

import json
import os
import socket
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.cli import mlflow, run
from cifar_lab.errors import TrackingError
from cifar_lab.mlflow_sync import server
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import SyncOutcome, sync_invocations


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@pytest.fixture
def remote(study: Any, store: MLflowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_TRACKING_URI names a server, on which two ablations were run; no server may be started here."""
    study.whole()
    for name, time in {"se_ratio": "20260102T000000.000", "blocks": "20260101T000000.000"}.items():
        sync_invocations(study.runs, [study.invocation(name, time=time)], store, draw=lambda record: {}, say=print)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@tracking.example:5000/mlflow/")
    monkeypatch.setattr(MLflowStore, "open", lambda uri: store)
    monkeypatch.setattr(server, "serve", None)


def test_a_port_that_is_taken_is_named_with_the_next_free_one(
    folder: Path, taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ui", "--port", str(taken), "--no-open"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"cifar-lab: --port {taken} is taken on 127.0.0.1; ")
    assert "\n" not in said
    server.require_free(int(said.rpartition(" ")[2]))
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("remote")
def test_a_server_of_ones_own_is_pointed_to_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ui", "--no-open"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if not line.startswith(" ")] == ["se_ratio", "blocks"]
    address = "https://tracking.example:5000/mlflow/#/experiments/"
    assert all(line.split()[1].startswith(address) for line in shown if line.startswith(" "))
    assert len(shown) == 6


@pytest.mark.usefixtures("remote")
def test_the_ablation_that_is_named_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ui", "blocks", "--no-open", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["server"] == "https://tracking.example:5000/mlflow"
    assert [entry["ablation"] for entry in tree["ablations"]] == ["blocks", "se_ratio"]


@pytest.mark.usefixtures("remote")
def test_one_that_was_not_run_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ui", "se_rato"]) == 2
    assert capsys.readouterr().err == "cifar-lab: MLflow has no runs of 'se_rato'; did you mean 'se_ratio'?\n"


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize("option", [[], ["--no-open"]])
def test_a_browser_opens_on_a_desktop_unless_it_may_not(monkeypatch: pytest.MonkeyPatch, option: list[str]) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(mlflow, "_has_desktop", lambda: True)
    assert run(["ui", *option]) == 0
    assert len(opened) == (0 if option else 1)


def test_a_desktop_is_a_terminal_and_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "environ", {"DISPLAY": ":0"})
    monkeypatch.setattr(sys, "stdout", _Terminal(True))
    assert mlflow._has_desktop()
    monkeypatch.setattr(os, "environ", {"WAYLAND_DISPLAY": ""})
    assert not mlflow._has_desktop()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert mlflow._has_desktop()
    monkeypatch.setattr(sys, "stdout", _Terminal(False))
    assert not mlflow._has_desktop()


@pytest.mark.slow
def test_a_server_that_cannot_start_ends_with_its_last_words(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with (
        pytest.raises(TrackingError, match=r"server ended: .+\(all of it: (.+)\)") as refusal,
        server.serve(f"nothing://{tmp_path}", port),
    ):
        pass
    log = Path(str(refusal.value).rpartition("all of it: ")[2].rstrip(")"))
    assert log.read_text()
    log.unlink()


class _Terminal:
    def __init__(self, is_one: bool) -> None:
        self.isatty = lambda: is_one


@pytest.mark.parametrize(
    ("experiments", "line"),
    [
        ((), "0 cells shipped, 1 left"),
        (("duo/wd",), "6 cells shipped to duo/wd, 1 left"),
        (("duo/wd", "duo/lr"), "6 cells shipped to 2 experiments, 1 left"),
    ],
)
def test_sync_names_where_it_shipped_cells_to(
    experiments: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = SyncOutcome(6 if experiments else 0, 1, experiments)
    monkeypatch.setattr("cifar_lab.mlflow_sync.upload.sync_all", lambda *_, **__: outcome)
    assert run(["sync"]) == 1
    assert capsys.readouterr().out.strip() == line

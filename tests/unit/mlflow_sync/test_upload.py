"""Start and events of the thread by which a runner uploads to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made.run_records import Runs

from cifar_lab.execution.upload import NoUpload
from cifar_lab.mlflow_sync import upload
from cifar_lab.mlflow_sync.upload import MLflowUpload, open_upload
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index


class Thread:
    """Stand-in for the thread that uploads."""

    def __init__(self, left: int) -> None:
        self.calls: list[object] = []
        self._left = left

    def follow(self, invocation: Invocation) -> None:
        self.calls.append(("follow", invocation.id))

    def train(self, fingerprint: str) -> None:
        self.calls.append(("train", fingerprint))

    def drain(self, seconds: float) -> int:
        self.calls.append(("drain", seconds))
        return self._left


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Thread, bool]]:
    """The threads that were started, and whether other runners share their cells; each leaves two cells."""
    threads: list[tuple[Thread, bool]] = []

    def start(runs: Path, invocation: Invocation, files: Any, say: Any, *, is_shared: bool, models: Any) -> Thread:
        threads.append((Thread(left=2), is_shared))
        return threads[-1][0]

    monkeypatch.setattr(upload, "start_upload", start)
    return threads


def note(runs: Runs) -> Invocation:
    runs.ask([runs.cell("r16", 0)])
    return read_index(runs.folder).invocations[0]


def opened(runs: Runs, lines: list[str], *, is_shared: bool = True) -> MLflowUpload:
    results = open_upload(runs.folder, lambda _: {}, lines.append, offline=False, is_shared=is_shared)
    assert isinstance(results, MLflowUpload)
    return results


def test_a_thread_follows_what_is_trained_and_says_what_is_left(runs: Runs, started: list[Any]) -> None:
    lines: list[str] = []
    results, invocation = opened(runs, lines), note(runs)
    results.update(invocation, trains=True)
    results.started("f" * 64)
    results.update(invocation, trains=True)
    results.finish()
    ((thread, is_shared),) = started
    assert is_shared
    assert thread.calls == [("train", "f" * 64), ("follow", invocation.id), ("drain", upload.DRAIN_SECONDS)]
    assert lines == ["2 cells are not wholly in MLflow yet; `cifar-lab sync` ships the rest"]


@pytest.mark.parametrize("is_lacking", [True, False])
def test_without_training_a_thread_is_started_for_what_the_store_lacks(
    is_lacking: bool, runs: Runs, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "lacks", lambda *_: is_lacking)
    results = opened(runs, [])
    results.update(note(runs), trains=False)
    results.finish()
    assert [is_shared for _, is_shared in started] == ([False] if is_lacking else [])


def test_offline_nothing_is_uploaded(runs: Runs, started: list[Any]) -> None:
    results = open_upload(runs.folder, lambda _: {}, print, offline=True)
    assert isinstance(results, NoUpload)
    results.update(note(runs), trains=True)
    results.finish()
    assert started == []

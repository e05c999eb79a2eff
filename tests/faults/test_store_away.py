"""A tracking store that is away costs the training nothing, and loses nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made import records

from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import TrackingError
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import sync_invocations
from cifar_lab.mlflow_sync.uploader import Uploader
from cifar_lab.mlflow_sync.uri import require_usable, resolve_uri
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef, Invocation
from cifar_lab.store.journal import Journal


def _asked(seed: int) -> CellRef:
    recipe = Recipe()
    return CellRef(
        variant="r16",
        seed=seed,
        fingerprint=recipe.fingerprint(seed=seed, data_hash=records.SYNTHETIC.hash),
        recipe=recipe.digest(),
        parameters=1,
        parameters_trained=1,
        macs=1,
    )


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def invocation(runs: Path) -> Invocation:
    """Three cells: two finished, and one that was never begun."""
    cells = tuple(_asked(seed) for seed in range(3))
    for cell in cells[:2]:
        record = CellRecord(runs / cell.fingerprint)
        records.begin(record, seed=cell.seed)
        journal = Journal(record.folder)
        journal.write("start")
        journal.points(1, {"val/acc": 0.5})
        journal.write("end", status="finished")
        now = time.time_ns() // 1_000_000
        records.end(record, {"test/acc": 0.4}, time=now)
    asked = records.invocation(*cells, id="20260101T000000.000-se_ratio", scale="smoke", data=records.SYNTHETIC)
    asked.write(runs)
    return asked


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def _drain(runs: Path, invocation: Invocation, timeout_s: float) -> tuple[int, float, list[str]]:
    """(cells left, seconds that the caller was held up, what was said)."""
    said: list[str] = []
    began = time.monotonic()
    shipper = Uploader(
        runs,
        invocation,
        lambda: MLflowStore.open(resolve_uri()),
        draw=lambda record: {},
        say=said.append,
        interval=0.05,
    )
    shipper.start()
    left = shipper.drain(timeout_s)
    return left, time.monotonic() - began, said


@pytest.mark.slow
def test_a_server_that_is_down_is_given_up_in_time_and_sync_ships_everything_later(
    runs: Path, invocation: Invocation, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow  # noqa: F401 (its import is not what is timed)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port}")
    require_usable(resolve_uri())
    before = {path: path.read_bytes() for path in runs.rglob("*.json*")}
    left, seconds, said = _drain(runs, invocation, 4)
    assert left == 2
    assert seconds < 12
    assert len(said) == 1
    assert "is away" in said[0]
    assert "secret" not in said[0]
    assert {path: path.read_bytes() for path in runs.rglob("*.json*")} == before

    store = MLflowStore.open(f"sqlite:///{tmp_path}/mlflow.db")
    assert sync_invocations(runs, [invocation], store, draw=lambda record: {}, say=said.append)[:2] == (2, 0)
    assert sync_invocations(runs, [invocation], store, draw=lambda record: {}, say=said.append)[:2] == (0, 0)
    found = store.find_all("se_ratio", role="cell")
    shipped = {run.tags["fingerprint"]: run.tags["cifar_lab.shipped_to"] for run in found}
    results = {name: CellRecord(runs / name).result() for name in shipped}
    assert shipped == {name: str(result.time) for name, result in results.items() if result is not None}
    assert len(found) == 2


def test_a_server_that_does_not_answer_holds_nobody_up(
    runs: Path, invocation: Invocation, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow  # noqa: F401

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    left, seconds, _ = _drain(runs, invocation, 1)
    assert left == 2
    assert seconds < 5


def test_sync_to_a_server_that_is_down_says_so_and_counts_what_is_left(
    runs: Path, invocation: Invocation, closed_port: int
) -> None:
    said: list[str] = []
    store = MLflowStore.open(f"http://127.0.0.1:{closed_port}")
    assert sync_invocations(runs, [invocation], store, draw=lambda record: {}, say=said.append)[:2] == (0, 2)
    assert len(said) == 1


@pytest.mark.parametrize("place", ["file/mlflow.db", "file", "nowhere/mlflow.db", "."])
def test_a_database_that_cannot_be_is_refused_in_one_line_before_anything_is_trained(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("this is no database\n" * 50)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/{place}")
    with pytest.raises(TrackingError) as refusal:
        require_usable(resolve_uri())
    assert "\n" not in str(refusal.value)

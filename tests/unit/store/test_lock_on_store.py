"""Locks between machines on a real server of S3."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cifar_lab.errors import ObjectStoreError
from cifar_lab.object_store import ObjectStore
from cifar_lab.store import lock_on_store, mirror
from cifar_lab.store.lock_on_store import locked_on_store
from cifar_lab.store.mirror import open_mirror


@pytest.fixture
def copies(address: str, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs folders of two machines."""
    folders = []
    for name in ("a", "b"):
        monkeypatch.setattr(mirror.socket, "gethostname", lambda name=name: name)
        folders.append(open_mirror(address))
    return folders


def test_one_machine_at_a_time_is_inside(copies: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_on_store, "PAUSE", 0.01)
    inside, most = [], []

    def enter(folder: Path) -> None:
        with locked_on_store(folder / "cell" / "shipping.lock"):
            inside.append(folder)
            most.append(len(inside))
            inside.remove(folder)

    threads = [threading.Thread(target=enter, args=(folder,)) for folder in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]


def test_without_the_store_nothing_is_held(
    copies: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise ObjectStoreError("away")

    monkeypatch.setattr(ObjectStore, "read_many", away)
    with locked_on_store(copies[0] / "shipping.lock"):
        assert "away; another machine" in caplog.text


def test_a_plain_folder_needs_no_more_than_its_file(tmp_path: Path) -> None:
    with locked_on_store(tmp_path / "cell" / "shipping.lock"):
        assert list(tmp_path.iterdir()) == []

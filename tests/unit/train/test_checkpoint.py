"""A checkpoint is whole or not there, and runs no code when it is read."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from cifar_lab.errors import CellError
from cifar_lab.train import checkpoint


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = {"net": {"w": torch.randn(3, 4)}, "counters": {"epoch": 3, "seconds": 1.5}, "ema": None}
    checkpoint.save(tmp_path / "c.pt", state)
    loaded = checkpoint.load(tmp_path / "c.pt")
    assert loaded is not None
    assert torch.equal(loaded["net"]["w"], state["net"]["w"])  # type: ignore[index]
    assert loaded["counters"] == state["counters"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "c.pt") is None


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", {"epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save(tmp_path / "c.pt", {"epoch": lambda: 2})
    assert checkpoint.load(tmp_path / "c.pt") == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "code"])
def test_a_damaged_or_foreign_file_is_refused_and_not_run(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"w": torch.zeros(100)})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    else:
        torch.save({"w": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(CellError, match="not a readable checkpoint"):
        checkpoint.load(path)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)

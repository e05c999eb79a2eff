"""A checkpoint is whole or not there, and runs no code when it is read."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from cifar_lab.errors import CellError
from cifar_lab.train import checkpoint


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = {"net": {"w": torch.randn(3, 4)}, "counters": {"epoch": 3, "seconds": 1.5}, "ema": None}
    checkpoint.save(tmp_path / "c.pt", state)
    loaded = checkpoint.load_checkpoint(tmp_path / "c.pt")
    assert loaded is not None
    assert torch.equal(loaded["net"]["w"], state["net"]["w"])  # type: ignore[index]
    assert loaded["counters"] == state["counters"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_checkpoint(tmp_path / "c.pt") is None


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", {"epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save(tmp_path / "c.pt", {"epoch": lambda: 2})
    assert checkpoint.load_checkpoint(tmp_path / "c.pt") == {"epoch": 1}
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
        checkpoint.load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


STATE = {"net": {"w": torch.arange(3000.0)}, "epoch": 3}


def test_it_is_a_zip_file_that_torch_reads_by_itself(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", STATE, "f" * 64)
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    assert state["fingerprint"] == "f" * 64
    with zipfile.ZipFile(tmp_path / "c.pt") as archive:
        assert archive.comment.startswith(b"sha256:")
        assert archive.testzip() is None


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("is_of_an_earlier_version", [False, True])
def test_a_bit_that_flips_among_the_numbers_is_noticed(
    tmp_path: Path, place: float, is_of_an_earlier_version: bool
) -> None:
    path = tmp_path / "c.pt"
    if is_of_an_earlier_version:
        torch.save(STATE, path)
    else:
        checkpoint.save(path, STATE)
    content = bytearray(path.read_bytes())
    first = content.index(torch.arange(2500.0, 2503.0).numpy().tobytes())
    content[round(first - 4 * 2500 + place * 12000)] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["net"]["w"], STATE["net"]["w"]), "torch does not notice"
    with pytest.raises(CellError, match="not a readable checkpoint"):
        checkpoint.load_checkpoint(path)


def test_the_state_of_another_cell_is_refused(tmp_path: Path) -> None:
    state = dict.fromkeys(checkpoint.PARTS)
    checkpoint.save(tmp_path / "c.pt", state, "a" * 64)
    assert checkpoint.load_checkpoint(tmp_path / "c.pt", "a" * 64) == state
    with pytest.raises(CellError, match="the checkpoint of another cell, aaaaaaaaaaaa"):
        checkpoint.load_checkpoint(tmp_path / "c.pt", "b" * 64)
    torch.save({"weights": 1}, tmp_path / "c.pt")
    with pytest.raises(CellError, match="not the checkpoint of a training: 'counters' is missing"):
        checkpoint.load_checkpoint(tmp_path / "c.pt", "a" * 64)

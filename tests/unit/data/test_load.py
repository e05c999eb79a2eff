"""A source means the same to every process: `~` and relative paths are resolved once, before cells are planned."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import cifar_files as made

from cifar_lab.data import absolute, load, require_source
from cifar_lab.errors import DataError
from cifar_lab.execution.request import read_data


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> Path:
    """The user's home and the current folder, two different ones."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_the_home_folder_is_expanded(home: Path, folder: Path) -> None:
    folder.rename(home / "pictures")
    source, dataset = read_data("~/pictures", print)

    assert source == str(home / "pictures")
    assert load(source).hash == dataset.hash == load("~/pictures").hash


def test_a_relative_path_of_the_original_becomes_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made.small()
    made.as_original(data, monkeypatch)
    made.binary_folder(data, Path.cwd())
    source, dataset = read_data("cifar-10-batches-bin", print)

    assert dataset.kind == "cifar10"
    assert source == str(Path.cwd() / "cifar-10-batches-bin")


def test_names_stay_names_and_folders_of_their_name_are_paths(home: Path) -> None:
    assert absolute("cifar10") == "cifar10"
    assert absolute("synthetic") == "synthetic"
    assert absolute("./cifar10") == str(Path.cwd() / "cifar10")


def test_a_folder_that_is_no_data_set_is_refused_before_it_is_read(folder: Path) -> None:
    require_source(str(folder))
    for split in ("train", "test"):
        (folder / split).rename(folder / split.upper()[::-1])
    with pytest.raises(DataError, match=r"^data '.*pictures': .*expected train/<class>/\* and test/<class>/\*"):
        require_source(str(folder))

"""CIFAR-100 as torchvision leaves it, from this machine or from a mirror, on small files in its own format."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from made import cifar_files as made
from made.http_server import serving

from cifar_lab.data import absolute, cifar10, cifar100, download, load
from cifar_lab.data.download import ExpectedFile
from cifar_lab.data.published import archive_mirror
from cifar_lab.errors import DataError

NAME = "cifar-100-python.tar.gz"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> None:
    """No copy of the data on this machine, no mirror on another."""
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    for name in ("CIFAR100_ROOT", "CIFAR_LAB_MIRRORS", "CIFAR_LAB_MIN_RATE", "TORCH_HOME", "KERAS_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(cifar100, "MIRRORS", ())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small `cifar-100-python` whose sums count as the published ones."""
    folder = made.folder_100(made.small_100(), tmp_path / "made")
    made.as_original_100(folder, monkeypatch)
    return folder


def test_the_folder_of_torchvision_is_read_with_its_fine_labels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR100_ROOT", str(folder.parent))
    data, small = load("cifar100"), made.small_100()
    assert (data.name, data.kind, data.shape) == ("CIFAR-100", "cifar100", (100, 32))
    assert data.classes == small.names
    assert data.train_labels.tolist() == small.fine["train"]
    assert data.test_labels.tolist() == small.fine["test"]
    planes = data.train_images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    assert np.array_equal(planes, small.planes["train"])
    shutil.rmtree(folder)
    assert load("cifar100").hash == data.hash  # kept


def test_the_archive_beside_the_work_is_read(folder: Path) -> None:
    Path("data").mkdir()
    made.packed(folder, Path("data") / NAME)
    assert load("cifar100").kind == "cifar100"


def test_a_path_to_the_same_files_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    archive = made.packed(folder, tmp_path / NAME)
    assert load(str(archive)).hash == load(str(folder)).hash
    assert load(str(folder)).kind == "cifar100"


def test_other_images_in_its_format_are_no_cifar_100(tmp_path: Path) -> None:
    folder = made.folder_100(made.small_100(seed=1), tmp_path / "other")
    assert (load(str(folder)).kind, load(str(folder)).name) == ("path", "cifar-100-python")
    with pytest.raises(DataError, match=r"CIFAR-100 could not be fetched|no mirror"):
        _failing_download(tmp_path)


def _failing_download(tmp_path: Path) -> None:
    with serving({}) as server:
        mirrors = (archive_mirror(server.url, cifar100.PYTHON),)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cifar100, "MIRRORS", mirrors)
            load("cifar100")


def test_a_mirror_delivers_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made.packed(folder, tmp_path / "packed.tar.gz").read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(cifar100, "PYTHON", ExpectedFile(NAME, len(content), "md5", md5))
    with serving({f"/{NAME}": content}) as server:
        monkeypatch.setenv("CIFAR_LAB_MIRRORS", f"{server.url}/cifar-10-python.tar.gz {server.url}")
        assert load("cifar100").kind == "cifar100"
        assert [path for path, _ in server.asked] == [f"/{NAME}"]


def test_the_published_sums_are_those_of_the_author() -> None:
    assert cifar100.PYTHON == (NAME, 169_001_437, "md5", "eb9058c3a382ffc7106e4002c42a8d85")


def test_its_name_is_a_source_in_every_folder() -> None:
    assert absolute("cifar100") == "cifar100"


def test_a_batch_without_fine_labels_is_refused(folder: Path) -> None:
    batch = made.python_folder(made.small(), folder.parent) / "data_batch_1"
    shutil.copy(batch, folder / "train")
    with pytest.raises(DataError, match="has no 'fine_labels'"):
        load(str(folder))


def test_an_archive_of_the_other_data_set_is_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["cifar-10-python.tar.gz", "cifar-100-python.tar.gz"]
    monkeypatch.setenv("CIFAR_LAB_MIRRORS", ", ".join(f"https://example.org/{name}" for name in names))
    for module in (cifar10, cifar100):
        monkeypatch.setattr(module, "MIRRORS", ())
    own = [[mirror.url for mirror in module.mirrors()] for module in (cifar10, cifar100)]
    assert own == [[f"https://example.org/{name}"] for name in names]

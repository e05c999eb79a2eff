"""Images on an object store: fetched once per machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_lab.data import absolute, load
from cifar_lab.errors import DataError, UsageError
from cifar_lab.object_store import ObjectStore


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(address: str, few_images: Path, tmp_path: Path) -> str:
    """The address of a zip of images."""
    path = Path(shutil.make_archive(str(tmp_path / "few"), "zip", few_images))
    ObjectStore(address).write("few.zip", path.read_bytes())
    return f"{address}/few.zip"


def test_images_of_an_address_are_those_of_the_file(archive: str, few_images: Path, cache: Path) -> None:
    assert load(archive).hash == load(str(few_images)).hash
    assert load(archive).name == "few"


@pytest.mark.slow
def test_processes_that_ask_at_once_fetch_it_once(archive: str, cache: Path) -> None:
    line = [sys.executable, "-c", "import sys; from cifar_lab.data import load; load(sys.argv[1], say=print)", archive]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    lines = "".join(process.communicate(timeout=120)[0] for process in processes).splitlines()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len([line for line in lines if line.startswith("fetching")]) == 1, lines
    assert len(list(cache.glob("fetched/*/few.zip"))) == 1


def test_another_version_is_fetched_anew(
    archive: str, address: str, few_images: Path, cache: Path, tmp_path: Path
) -> None:
    before = load(archive)
    fewer = Path(shutil.copytree(few_images, tmp_path / "fewer"))
    for path in fewer.glob("train/*/0.png"):
        path.unlink()
    other = Path(shutil.make_archive(str(tmp_path / "other"), "zip", fewer))
    ObjectStore(address).write("few.zip", other.read_bytes())
    assert (len(before.train_labels), len(load(archive).train_labels)) == (60, 50)


def test_a_fetch_that_broke_leaves_nothing(archive: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_store: ObjectStore, _name: str, path: Path) -> None:
        path.write_bytes(b"half")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "download", cut)
        with pytest.raises(DataError, match="it changed while it was fetched"):
            load(archive)
    assert [path.name for path in cache.glob("fetched/*/*")] == [".lock"]
    assert len(load(archive).test_labels) == 20


@pytest.mark.parametrize("name", ["none.zip", "few"])
def test_an_object_that_is_not_there_is_named(archive: str, address: str, name: str, cache: Path) -> None:
    with pytest.raises(DataError, match="no such object"):
        load(f"{address}/{name}")


def test_addresses_that_are_not_used_are_refused(cache: Path) -> None:
    with pytest.raises(DataError, match="a bucket"):
        load("s3://lab-records")
    with pytest.raises(UsageError, match="data gs://bucket/few"):
        load("gs://bucket/few.zip")


def test_a_file_address_is_the_path(few_images: Path, cache: Path) -> None:
    assert absolute(f"file://{few_images}") == str(few_images.resolve())
    assert load(f"file://{few_images}").hash == load(str(few_images)).hash

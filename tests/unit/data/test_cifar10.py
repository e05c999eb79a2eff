"""CIFAR-10 from this machine or from mirrors, on small files in its own formats and servers on this machine."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made import cifar_files as made
from made.http_server import Server, serving

from cifar_lab.data import cifar10, download, load
from cifar_lab.data.download import ExpectedFile, RemoteFile
from cifar_lab.data.published import DownloadMirror
from cifar_lab.errors import DataError

PATH = "/cifar-10-python.tar.gz"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> None:
    """No copy of the data on this machine, no mirror on another, no waiting between attempts."""
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    for name in ("CIFAR10_ROOT", "CIFAR_LAB_MIRRORS", "CIFAR_LAB_MIN_RATE", "TORCH_HOME", "KERAS_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(cifar10, "MIRRORS", ())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> made.Small:
    data = made.small()
    made.as_original(data, monkeypatch)
    return data


@pytest.fixture
def archive(small: made.Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The small `cifar-10-python.tar.gz`, whose size and md5 take the place of the published ones."""
    path = made.packed(made.python_folder(small, tmp_path / "made"), tmp_path / "made.tar.gz")
    monkeypatch.setattr(cifar10, "PYTHON", expected(path.read_bytes()))
    return path.read_bytes()


def expected(content: bytes, name: str = "cifar-10-python.tar.gz") -> ExpectedFile:
    return ExpectedFile(name, len(content), "md5", hashlib.md5(content, usedforsecurity=False).hexdigest())


def mirror(server: Server) -> DownloadMirror:
    return DownloadMirror(files=(RemoteFile(url=server.url + PATH, expected=cifar10.PYTHON),))


@pytest.fixture
def server(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The first mirror."""
    with serving({PATH: archive}) as server:
        monkeypatch.setattr(cifar10, "MIRRORS", (mirror(server),))
        yield server


@pytest.fixture
def second(server: Server, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The second mirror."""
    with serving({PATH: archive}) as second:
        monkeypatch.setattr(cifar10, "MIRRORS", (mirror(server), mirror(second)))
        yield second


def test_a_download_becomes_the_original_and_is_kept(server: Server, small: made.Small, cache_root: Path) -> None:
    data = load("cifar10")

    assert (data.name, data.kind, data.classes) == ("CIFAR-10", "cifar10", made.CLASSES)
    assert data.train_labels.tolist() == small.arrays.train_labels.tolist()
    assert (data.train_images == small.arrays.train_images).all()
    assert (cache_root / "downloads" / "cifar-10-python.tar.gz").exists()


def test_a_second_load_asks_nobody(server: Server, cache_root: Path) -> None:
    first = load("cifar10")
    server.asked.clear()
    shutil.rmtree(cache_root / "cifar10")  # even if the decoded images are gone
    said: list[str] = []

    assert load("cifar10", say=said.append).hash == first.hash
    assert server.asked == []


def test_torchvision_is_not_imported(server: Server, cache_root: Path) -> None:
    import subprocess
    import sys

    load("cifar10")
    code = "import sys; from cifar_lab.data import load; load('cifar10'); print('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_standard_output_stays_clean(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    load("cifar10", say=lambda _: None)

    assert capsys.readouterr().out == ""


ON_DISK: dict[str, Callable[[made.Small, Path, Path], object]] = {
    "the product's cache": lambda d, home, cache: made.python_folder(d, cache / "downloads"),
    "torchvision's ./data": lambda d, home, cache: made.python_folder(d, home / "work" / "data"),
    "an archive in ./data": lambda d, home, cache: [
        (home / "work" / "data").mkdir(),
        made.packed(made.python_folder(d, home / "x"), home / "work" / "data" / "cifar-10-python.tar.gz"),
    ],
    "binary batches here": lambda d, home, cache: made.binary_folder(d, home / "work"),
    "torch's cache": lambda d, home, cache: made.python_folder(d, home / ".cache" / "torch" / "datasets"),
    "Keras' cache": lambda d, home, cache: made.python_folder(d, home / ".keras" / "datasets"),
    "Keras' archive": lambda d, home, cache: [
        (home / ".keras" / "datasets").mkdir(parents=True),
        made.packed(made.python_folder(d, home), home / ".keras" / "datasets" / "cifar-10-batches-py.tar.gz"),
    ],
    "Keras 3's cache": lambda d, home, cache: made.python_folder(
        d, home / ".keras" / "datasets" / "cifar-10-batches-py-target"
    ),
    "the hub's cache": lambda d, home, cache: made.parquet_folder(
        d, home / ".cache/huggingface/hub/datasets--uoft-cs--cifar10/snapshots/0b27/plain_text"
    ),
}


@pytest.mark.parametrize("place", ON_DISK)
def test_what_is_on_this_machine_is_taken_without_network(
    small: made.Small, tmp_path: Path, cache_root: Path, place: str
) -> None:
    ON_DISK[place](small, tmp_path / "home", cache_root)

    assert load("cifar10").kind == "cifar10"


def test_the_variable_names_a_folder_that_is_looked_into_first(
    small: made.Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_ROOT", str(made.python_folder(small, tmp_path / "own").parent))
    (tmp_path / "home" / "work" / "cifar-10-python.tar.gz").write_text("not an archive")

    assert load("cifar10").kind == "cifar10"


@pytest.mark.parametrize("there", ["a truncated archive", "other images", "text"])
def test_what_is_not_the_original_is_passed_over_in_one_line(
    small: made.Small, server: Server, archive: bytes, tmp_path: Path, there: str
) -> None:
    work = tmp_path / "home" / "work"
    if there == "other images":
        made.python_folder(made.small(seed=1), work)
    else:
        (work / "cifar-10-python.tar.gz").write_bytes(archive[:-1000] if there == "a truncated archive" else b"text")
    said: list[str] = []

    assert load("cifar10", say=said.append).kind == "cifar10"
    assert len([line for line in said if "passed over" in line and "\n" not in line]) == 1
    assert len(server.asked) == 1


def break_with(name: str) -> Callable[[Server], None]:
    def spoil(server: Server) -> None:
        body = server.files[PATH]
        setting = {
            "HTTP 500": ("status", 500),
            "HTTP 404": ("files", {}),
            "cut off": ("drop_after", 50),
            "a page": ("files", {PATH: b"<html>" + b"x" * 100}),
            "wrong bytes": ("files", {PATH: body[:-9] + bytes(9)}),
        }
        setattr(server, *setting[name])

    return spoil


@pytest.mark.parametrize("fault", ["HTTP 500", "HTTP 404", "cut off", "a page", "wrong bytes"])
def test_a_broken_mirror_is_left_for_the_next(server: Server, second: Server, cache_root: Path, fault: str) -> None:
    break_with(fault)(server)
    said: list[str] = []

    assert load("cifar10", say=said.append).kind == "cifar10"
    assert len(second.asked) == 1
    assert any("trying another place" in line for line in said)


def test_a_slow_mirror_is_left_for_a_faster_one(
    server: Server, second: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SLOW_AFTER", 0.1)
    server.rate = 2000

    assert load("cifar10").kind == "cifar10"
    assert len(second.asked) == 1


def test_a_slow_mirror_is_gone_back_to_when_no_other_works(
    server: Server, second: Server, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SLOW_AFTER", 0.1)
    monkeypatch.setenv("CIFAR_LAB_MIN_RATE", "1e9")
    server.rate = len(archive)
    second.status = 404
    said: list[str] = []

    assert load("cifar10", say=said.append).kind == "cifar10"
    assert any("no place is faster" in line for line in said)
    assert server.asked[-1][1].startswith("bytes=")


def test_the_only_mirror_is_kept_to_however_slow(
    server: Server, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SLOW_AFTER", 0.1)
    monkeypatch.setenv("CIFAR_LAB_MIN_RATE", "1e9")
    server.rate = len(archive) * 2

    assert load("cifar10").kind == "cifar10"
    assert len(server.asked) == 1


def test_mirrors_of_ones_own_are_asked_first(
    server: Server, small: made.Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = made.parquet_folder(small, tmp_path / "hub")
    files = {f"/d/{path.name}": path.read_bytes() for path in hub.iterdir()}
    with serving(files) as own:
        url = f"{own.url}/d/train-00000-of-00001.parquet"
        monkeypatch.setenv("CIFAR_LAB_MIRRORS", f"{own.url}/nothing/there, {url}")
        dataset = load("cifar10")

    assert (dataset.kind, server.asked) == ("cifar10", [])
    assert [path for path, _ in own.asked] == ["/nothing/there/cifar-10-python.tar.gz", *sorted(files, reverse=True)]


def test_a_mirror_of_ones_own_that_serves_other_images_is_refused(
    server: Server, tmp_path: Path, cache_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = made.parquet_folder(made.small(seed=1), tmp_path / "hub")
    with serving({f"/{path.name}": path.read_bytes() for path in hub.iterdir()}) as own:
        monkeypatch.setenv("CIFAR_LAB_MIRRORS", f"{own.url}/train-00000-of-00001.parquet")
        said: list[str] = []

        assert load("cifar10", say=said.append).kind == "cifar10"
    assert any("other images than those of CIFAR-10" in line for line in said)
    assert not list((cache_root / "downloads").glob("*.parquet"))


def test_binary_and_parquet_mirrors_give_the_same_hash(
    server: Server, small: made.Small, tmp_path: Path, cache_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_hash = load("cifar10").hash
    shutil.rmtree(cache_root)
    binary = made.packed(made.binary_folder(small, tmp_path / "b"), tmp_path / "cifar-10-binary.tar.gz").read_bytes()
    with serving({"/cifar-10-binary.tar.gz": binary}) as other:
        file = expected(binary, "cifar-10-binary.tar.gz")
        files = (RemoteFile(url=f"{other.url}/{file.name}", expected=file),)
        monkeypatch.setattr(cifar10, "MIRRORS", (DownloadMirror(files=files),))

        assert load("cifar10").hash == expected_hash


def test_without_network_one_line_says_what_works(
    archive: bytes, cache_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("CIFAR_LAB_MIRRORS", url)
    with pytest.raises(DataError) as caught:
        load("cifar10")

    message = str(caught.value)
    assert "\n" not in message
    for part in (
        *(f"{url}{PATH}", "Connection refused", "--data PATH", "train/<class>/*", "--data synthetic"),
        *(str(cache_root / "downloads"), "cifar-10-batches-py", "parquet"),
    ):
        assert part in message
    assert not (cache_root / "cifar10").exists()


def test_the_built_in_mirrors_are_held_to_published_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    assert cifar10.MIRRORS[0].url == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    for mirror in cifar10.MIRRORS:
        assert all(remote.url.startswith("https://") and len(remote.expected.digest) >= 32 for remote in mirror.files)

"""CIFAR-10 by torchvision, on small files in its own format, from disk and from a server on this machine."""

from __future__ import annotations

import hashlib
import pickle
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_lab.data import cifar10, load
from cifar_lab.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


@dataclass
class Small:
    """Twenty images a batch in CIFAR-10's format: what torchvision is now told to expect."""

    archive: bytes
    pixels: dict[str, np.ndarray]
    """Of each batch: (20, 3072), red plane, green plane, blue plane."""
    labels: dict[str, list[int]]


@dataclass
class Server:
    """Answers any request with `body`, of which it sends the first `sent` bytes and then hangs up."""

    body: bytes
    sent: int
    asked: list[str] = field(default_factory=list)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 256, (20, 3072), dtype=np.uint8) for name in BATCHES}
    labels = {name: rng.permutation([*range(10)] * 2).tolist() for name in BATCHES}
    made = tmp_path / "made" / "cifar-10-batches-py"
    made.mkdir(parents=True)
    for name in BATCHES:
        (made / name).write_bytes(pickle.dumps({"data": pixels[name], "labels": labels[name]}))
    (made / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}))
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as archive:
        archive.add(made, made.name)

    sums = [[name, md5(made / name)] for name in BATCHES]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(made / "batches.meta")})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(tmp_path / "made.tar.gz"))
    return Small((tmp_path / "made.tar.gz").read_bytes(), pixels, labels)


@pytest.fixture
def served_at(small: Small, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """Makes torchvision ask a port of this machine for CIFAR-10; returns the address."""
    from torchvision.datasets import CIFAR10

    def served_at(port: int) -> str:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{port}/cifar-10-python.tar.gz")
        return str(CIFAR10.url)

    return served_at


@pytest.fixture
def server(small: Small, served_at: Callable[[int], str]) -> Iterator[Server]:
    state = Server(small.archive, len(small.archive))

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            state.asked.append(self.command)
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(state.body[: state.sent])

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        served_at(http.server_port)
        yield state
        http.shutdown()


def test_a_download_becomes_arrays(small: Small, server: Server, tmp_path: Path) -> None:
    data = cifar10.fetch(tmp_path / "downloads")

    assert (data.name, data.kind, data.classes) == ("CIFAR-10", "cifar10", CLASSES)
    assert (data.train_images.shape, data.test_images.shape) == ((100, 32, 32, 3), (20, 32, 32, 3))
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int64
    assert data.train_images.flags.c_contiguous
    assert data.train_labels.tolist() == [label for name in BATCHES[:5] for label in small.labels[name]]
    assert data.test_labels.tolist() == small.labels["test_batch"]
    row, column, channel = 3, 5, 2
    at = channel * 1024 + row * 32 + column
    assert data.train_images[21, row, column, channel] == small.pixels["data_batch_2"][1, at]


def test_a_second_fetch_needs_no_network(server: Server, tmp_path: Path) -> None:
    cifar10.fetch(tmp_path / "downloads")
    server.asked.clear()
    cifar10.fetch(tmp_path / "downloads")

    assert server.asked == []


def test_a_second_load_needs_no_torchvision(server: Server, cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first = load("cifar10", say=said.append)
    monkeypatch.setattr(cifar10, "fetch", lambda *_: pytest.fail("fetched again"))

    assert load("cifar10", say=said.append).hash == first.hash
    assert len(said) == 1
    assert (cache_root / "downloads" / "cifar-10-python.tar.gz").exists()


def test_standard_output_stays_clean(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cifar10.fetch(tmp_path / "downloads")

    assert capsys.readouterr().out == ""


def test_a_truncated_archive_is_downloaded_again(small: Small, server: Server, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "cifar-10-python.tar.gz").write_bytes(small.archive[:-100])

    assert len(cifar10.fetch(tmp_path / "downloads").train_labels) == 100
    assert "GET" in server.asked


def test_a_damaged_batch_is_unpacked_again(server: Server, tmp_path: Path) -> None:
    before = cifar10.fetch(tmp_path / "downloads").hash
    batch = tmp_path / "downloads" / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-100])

    assert cifar10.fetch(tmp_path / "downloads").hash == before


def test_a_download_that_is_cut_off_is_refused_and_then_made_again(server: Server, cache_root: Path) -> None:
    server.sent = len(server.body) // 2
    with pytest.raises(DataError, match="CIFAR-10 could not be fetched") as caught:
        load("cifar10")
    assert "\n" not in str(caught.value)
    assert not (cache_root / "cifar10").exists()

    server.sent = len(server.body)
    assert len(load("cifar10").train_labels) == 100


def test_a_server_that_sends_something_else_is_refused(server: Server, cache_root: Path) -> None:
    server.body = b"<html>Please sign in to this hotel's network</html>"
    with pytest.raises(DataError, match="CIFAR-10 could not be fetched"):
        load("cifar10")
    assert not (cache_root / "cifar10").exists()


@pytest.mark.parametrize("there", ["nothing", "a truncated archive"])
def test_without_network_one_line_says_what_works(
    small: Small, served_at: Callable[[int], str], cache_root: Path, there: str
) -> None:
    if there == "a truncated archive":
        (cache_root / "downloads").mkdir(parents=True)
        (cache_root / "downloads" / "cifar-10-python.tar.gz").write_bytes(small.archive[:-100])
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = served_at(closed.getsockname()[1])
    with pytest.raises(DataError) as caught:
        load("cifar10")

    message = str(caught.value)
    assert "\n" not in message
    for part in (url, "Connection refused", "--data PATH", "train/<class>/*", "--data synthetic"):
        assert part in message
    assert not (cache_root / "cifar10").exists()
    assert socket.getdefaulttimeout() is None


def test_a_server_that_falls_silent_is_given_up(
    served_at: Callable[[int], str], cache_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        served_at(silent.getsockname()[1])
        with pytest.raises(DataError, match="timed out"):
            load("cifar10")

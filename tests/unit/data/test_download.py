"""Downloads from a server on this machine that is slow, broken, lying or cut off."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made.http_server import Server, serving

from cifar_lab.data import download, http_client
from cifar_lab.data.download import ExpectedFile, MirrorFailed, MirrorSlow, RemoteFile
from cifar_lab.data.progress import amount
from cifar_lab.errors import DataError, UsageError

BODY = np.random.default_rng(0).bytes(400_000)
FILE = ExpectedFile("a.bin", len(BODY), "sha256", hashlib.sha256(BODY).hexdigest())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with serving({"/a.bin": BODY}) as server:
        yield server


def place(server: Server, expected: ExpectedFile = FILE) -> RemoteFile:
    return RemoteFile(url=f"{server.url}/a.bin", expected=expected)


def fetch(server: Server, folder: Path, *, is_patient: bool = False, expected: ExpectedFile = FILE) -> bytes:
    said: list[str] = []
    return download.download(place(server, expected), folder, said.append, is_patient=is_patient).read_bytes()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "new") == BODY
    assert left(tmp_path / "new") == ["a.bin"]


def test_a_connection_that_is_cut_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.drop_after, server.drops = 300_000, 1

    assert fetch(server, tmp_path) == BODY
    assert server.asked == [("/a.bin", ""), ("/a.bin", "bytes=300000-")]


def test_a_partial_file_of_an_earlier_run_is_resumed(server: Server, tmp_path: Path) -> None:
    server.drop_after = 100_000
    with pytest.raises(MirrorFailed, match="the connection broke"):
        fetch(server, tmp_path)
    assert [name.endswith(".partial") for name in left(tmp_path)] == [True]
    server.drop_after, server.asked = None, []

    assert fetch(server, tmp_path) == BODY
    assert server.asked == [("/a.bin", "bytes=300000-")]


def test_a_server_without_ranges_sends_the_file_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.drop_after, server.drops = 300_000, 1

    assert fetch(server, tmp_path) == BODY


def test_a_wrong_beginning_of_an_earlier_run_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.drop_after = 100_000
    with pytest.raises(MirrorFailed):
        fetch(server, tmp_path)
    partial = next(tmp_path.iterdir())
    partial.write_bytes(b"x" + partial.read_bytes()[1:])
    server.drop_after = None

    assert fetch(server, tmp_path) == BODY
    assert left(tmp_path) == ["a.bin"]


def test_a_partial_file_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.drop_after = 100_000
    with pytest.raises(MirrorFailed):
        fetch(server, tmp_path)
    next(tmp_path.iterdir()).write_bytes(BODY + b"more")
    server.drop_after = None

    assert fetch(server, tmp_path) == BODY


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Please sign in to this hotel's network</html>", r"another file: .* begins with b'<html>Please "),
        (BODY[:-1] + b"\0", "its sha256 is not"),
        (BODY[:-1], "399,999 bytes, and 400,000 were expected"),
        (BODY + b"more", "it would send 400,004 bytes; expected 400,000"),
        (b"", "0 bytes"),
    ],
)
def test_another_file_is_refused_and_not_kept(server: Server, tmp_path: Path, body: bytes, reason: str) -> None:
    server.files["/a.bin"] = body

    with pytest.raises(MirrorFailed, match=reason):
        fetch(server, tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (500, 3), (503, 3), (429, 3)])
def test_an_error_is_told_and_one_of_the_server_is_tried_again(
    server: Server, tmp_path: Path, status: int, attempts: int
) -> None:
    server.status = status

    with pytest.raises(MirrorFailed, match=f"HTTP {status}"):
        fetch(server, tmp_path)
    assert len(server.asked) == attempts


def test_a_server_that_falls_silent_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "PATIENCE", 0.1)
    server.hangs = True

    with pytest.raises(MirrorFailed, match=r"timed out, no byte for 0.1 s"):
        fetch(server, tmp_path)


def test_a_refused_connection_is_told(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        server.url = f"http://127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(MirrorFailed, match="Connection refused"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.bin", "a.bin", "http://[::1/a.bin", "http:///a.bin"])
def test_an_address_that_is_none_is_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(MirrorFailed, match="address"):
        download.download(RemoteFile(url=url, expected=FILE), tmp_path, print, is_patient=True)


def test_a_slow_server_is_left_unless_there_is_no_other(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SLOW_AFTER", 0.2)
    monkeypatch.setenv("CIFAR_LAB_MIN_RATE", "1e6")
    server.rate = 500_000

    with pytest.raises(MirrorSlow, match=r"slow, .* kB/s"):
        fetch(server, tmp_path)
    assert fetch(server, tmp_path, is_patient=True) == BODY
    assert server.asked[1][1].startswith("bytes=")  # what came before was not fetched again


def test_a_trickle_counts_as_slow(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_AFTER", 0.2)
    server.rate = 100

    with pytest.raises(MirrorSlow):
        fetch(server, tmp_path)


def test_a_rate_that_is_no_number_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_LAB_MIN_RATE", "fast")

    with pytest.raises(UsageError, match="CIFAR_LAB_MIN_RATE is a number of kB/s from 0 to 1,000,000,000, got 'fast'"):
        fetch(server, tmp_path)


def test_the_proxy_of_the_environment_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files = {"http://mirror.invalid/a.bin": BODY}  # a proxy is asked for the whole address
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")

    proxied = RemoteFile(url="http://mirror.invalid/a.bin", expected=FILE)
    assert download.download(proxied, tmp_path, print, is_patient=True).read_bytes() == BODY


def test_a_folder_that_cannot_be_made_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match="cannot be written"):
        fetch(server, tmp_path / "file" / "below")


def test_a_password_in_an_address_is_not_shown() -> None:
    assert http_client.without_secrets("https://joe:secret@host:1/a.gz?key=secret") == "https://host:1/a.gz"


def test_progress_tells_amount_rate_and_remaining_time() -> None:
    assert amount(34_000_000, 170_000_000, 1.2e6) == "34 of 170 MB, 1.2 MB/s, 2 min left"
    assert amount(34_000_000, 170_000_000, 4e6) == "34 of 170 MB, 4.0 MB/s, 34 s left"
    assert amount(34_000_000, 0, 24e3) == "34 MB, 24 kB/s"


def test_lines_tell_of_a_download_where_there_is_no_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lab.data.progress.EVERY", 0.0)
    said: list[str] = []
    download.download(place(server), tmp_path, said.append, is_patient=False)

    assert said[0] == "downloading a.bin from 127.0.0.1 (0 MB)"
    assert "MB/s" in said[-1]

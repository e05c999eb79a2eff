"""Servers on this machine that answer against the rules of HTTP, or never to the end: the place is left in one line."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cifar_lab.data import download, http_client
from cifar_lab.data.download import ExpectedFile, MirrorFailed, RemoteFile

BODY = b"0123456789"
OK = b"HTTP/1.1 200 OK\r\n"
FOUND = b"HTTP/1.1 302 Found\r\nLocation: "


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)


@contextmanager
def answering(*parts: bytes, again: bytes = b"", every: float = 0.01) -> Iterator[str]:
    """Send `parts`, one to each connection in turn, then `again` without end or as long as somebody listens."""
    ended = threading.Event()
    left = list(parts)

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])
            while again and not ended.wait(every):
                connection.sendall(again)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.bin"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)


def refusal(url: str, folder: Path, size: int = len(BODY)) -> str:
    with pytest.raises(MirrorFailed) as caught:
        download.download(
            RemoteFile(url=url, expected=ExpectedFile("a.bin", size, "", "")), folder, print, is_patient=True
        )
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (FOUND + b"http://[::1\r\n\r\n", "it redirects to an address that is not valid"),
        (FOUND + b"http://\xff\xfe/\r\n\r\n", "it redirects to an address that is not valid"),
        (FOUND + b"/a.bin\r\n\r\n", "it redirects more than 10 times"),
        (
            OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
            "it would send more than the 10 bytes that were expected",
        ),
        (b"HTTP/1.1 404 \x1b[31mred\x07\r\n\r\n", r"HTTP 404 \x1b[31mred\x07"),
    ],
)
def test_an_answer_against_the_rules_is_one_line(sent: bytes, reason: str, tmp_path: Path) -> None:
    with answering(sent) as url:
        assert refusal(url, tmp_path) == reason


@pytest.mark.parametrize(
    ("sent", "again"),
    [
        (OK, b"X"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    ],
)
def test_an_answer_that_never_comes_to_the_file_is_left(
    sent: bytes, again: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "OPENING", 0.3)
    begun = time.monotonic()
    with answering(sent, again=again) as url:
        assert refusal(url, tmp_path) == "timed out, the server kept the answer back for 0.3 s"
    assert time.monotonic() - begun < 5


def test_the_body_of_a_redirect_is_not_read(tmp_path: Path) -> None:
    whole = OK + b"Content-Length: 10\r\n\r\n" + BODY
    with answering(whole) as target, answering(FOUND + target.encode() + b"\r\n\r\n", again=b"x" * 1000) as url:
        place = RemoteFile(url=url, expected=ExpectedFile("a.bin", len(BODY), "", ""))
        assert download.download(place, tmp_path, print, is_patient=True).read_bytes() == BODY


@pytest.mark.parametrize("length", [b"", b"Content-Length: 2000\r\n"])
def test_a_file_of_unknown_size_has_a_limit(length: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST", 1000)
    with answering(OK + length + b"\r\n", again=b"x" * 300) as url:
        message = refusal(url, tmp_path, size=0)
    assert message in {
        "it sends more than the 1,000 bytes that were expected",
        "it would send 2,000 bytes; at most 1,000 are read",
    }
    assert list(tmp_path.iterdir()) == []


def test_more_than_was_expected_is_not_kept(tmp_path: Path) -> None:
    with answering(OK + b"\r\n" + BODY + b"more") as url:
        assert refusal(url, tmp_path) == "it sends more than the 10 bytes that were expected"
    assert list(tmp_path.iterdir()) == []


def test_certificates_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    message = refusal("https://127.0.0.1:9/a.bin", tmp_path)
    assert "/none.pem; REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE has to name a CA bundle" in message


HIDE: dict[str, str] = {
    "http://u:p%40ss#secret@h/a.gz": "http://h/a.gz",
    "http://me@x.org:p/w?s@h:1/a.gz": "http://h:1/a.gz",
    "http://u:1234#5@h/a": "http://h/a",
    "http://u@h/a@b": "http://h/a@b",
    "http://h:80/a@b": "http://h:***@b",
    "http://h:12345/p?w@h/a.gz": "http://h:***@h/a.gz",
    "http://h:1/@h:80/a?x@y": "http://h:***@y",
    "http://[::1]:80/a@b": "http://[::1]:80/a@b",
}


@pytest.mark.parametrize("url", HIDE)
def test_no_part_of_a_password_is_shown(url: str) -> None:
    assert http_client.without_secrets(url) == HIDE[url]
    assert http_client.host(url) in {"h", "::1"}

"""A server on this machine that misbehaves as asked: slow, silent, broken, lying, cut off, ignorant of ranges."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Server:
    """Answers each request for `files[path]`; what is set here changes how."""

    files: dict[str, bytes]
    url: str = ""
    status: int = 200
    """Anything but 200: the answer, without a body."""
    drop_after: int | None = None
    """Bytes after which each connection is cut, although more was promised."""
    drops: int = 1_000_000
    """Connections that are cut; later ones are served whole."""
    ranges: bool = True
    rate: float = 0.0
    """Bytes a second; 0: as fast as it goes."""
    hangs: bool = False
    """Sends the headers and nothing more."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range header) of each request."""
    posted: list[tuple[str, bytes]] = field(default_factory=list)
    """(path, body) of each POST, also of those that `status` refuses."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve `files` on a free port until the end of the block."""
    server = Server(files)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            server.asked.append((self.path, asked))
            body = server.files.get(self.path)
            if body is None or server.status != 200:
                self.send_error(404 if body is None else server.status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
            if start >= len(body) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if server.hangs:
                ended.wait(30)
                return
            end = len(body)
            if server.drop_after is not None and server.drops > 0:
                server.drops -= 1
                end = min(end, start + server.drop_after)
            self.send(body[start:end])

        def do_POST(self) -> None:
            server.posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            if server.hangs:
                ended.wait(30)
                return
            if server.status != 200:
                self.send_error(server.status)
                return
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send(self, data: bytes) -> None:
            step = max(1, int(server.rate / 50)) if server.rate else len(data) or 1
            for at in range(0, len(data), step):
                if ended.is_set():
                    return
                self.wfile.write(data[at : at + step])
                if server.rate:
                    time.sleep(0.02)

        def handle(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, as it should
                super().handle()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        server.url = f"http://127.0.0.1:{http.server_port}"
        try:
            yield server
        finally:
            ended.set()
            http.shutdown()

"""A server of S3 in a process of its own: moto's, one request at a time, so that its conditions on writes are atomic.

`python s3_server.py FILE` writes its address to FILE once it answers. It counts requests and bytes: `GET /counts`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "lab-records"
START_WITHIN = 60.0


@dataclass(frozen=True)
class S3Server:
    """A server that answers at `endpoint`."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def make_bucket(self) -> None:
        """Make the bucket if it is not there."""
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")).close()

    def counts(self) -> dict[str, int]:
        """Requests by kind, and bytes in either direction, since the last call."""
        with urllib.request.urlopen(f"{self.endpoint}/counts") as answer:
            return dict(json.load(answer))


@contextmanager
def serve_s3(folder: Path) -> Iterator[S3Server]:
    """Start a server, and end it."""
    told = folder / "endpoint"
    process = subprocess.Popen([sys.executable, __file__, str(told)])
    try:
        end = time.monotonic() + START_WITHIN
        while not told.exists():
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.05)
        yield S3Server(told.read_text(), process)
    finally:
        process.kill()
        process.wait()


class _Counting:
    """WSGI application around another, which counts."""

    def __init__(self, app: Any) -> None:
        self._app, self._counts = app, Counter[str]()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/counts":
            content, self._counts = json.dumps(self._counts).encode(), Counter()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [content]
        kind = "LIST" if "list-type=2" in environ.get("QUERY_STRING", "") else environ["REQUEST_METHOD"]
        content = b"".join(self._app(environ, start_response))
        self._counts[kind] += 1
        self._counts["bytes received"] += int(environ.get("CONTENT_LENGTH") or 0)
        self._counts["bytes sent"] += len(content)
        return [content]


def _main(told: Path) -> None:
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, _Counting(DomainDispatcherApplication(create_backend_app)), threaded=False)
    partial = told.with_suffix(".partial")
    partial.write_text(f"http://127.0.0.1:{server.port}")
    partial.rename(told)
    server.serve_forever()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))

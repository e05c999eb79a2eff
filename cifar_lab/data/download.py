"""Download a file over HTTP from one of several mirrors: resumable, verified, and stored atomically.

Each mirror has its own `.partial` file, so that bytes of different mirrors never mix. A slow mirror is skipped, and
tried again if no other is faster. Proxies are taken from the environment.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cifar_lab.data import http_client
from cifar_lab.data.array_files import LARGEST
from cifar_lab.data.http_client import TransferError
from cifar_lab.data.messages import shown
from cifar_lab.data.progress import Report, reported
from cifar_lab.environment import environment_number
from cifar_lab.errors import DataError

if TYPE_CHECKING:
    import requests

SLOW_AFTER = 20.0
"""Seconds over which the rate is measured before a mirror counts as slow."""
RETRIES = 3
"""Consecutive attempts with less than `CHUNK` bytes each before a mirror is given up."""
PAUSE = 1.0
"""Seconds between two attempts."""
CHUNK = 1 << 18
SLOWEST_VARIABLE = "CIFAR_LAB_MIN_RATE"
"""Rate in kB/s below which a mirror counts as slow."""
SLOWEST = 200.0


class ExpectedFile(NamedTuple):
    """Expected properties of a file."""

    name: str
    size: int
    """Size in bytes; 0 if unknown."""
    algorithm: str
    """md5 or sha256; empty if the reader checks the content."""
    digest: str


class MirrorSlow(Exception):
    """Error raised if a mirror works, but another might be faster."""

    def __init__(self, rate: float) -> None:
        super().__init__(f"slow, {rate / 1000:,.0f} kB/s")
        self.rate = rate


class MirrorFailed(Exception):
    """Error raised if a mirror does not provide the file; the message has the reason."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """Address with the file that is expected there."""

    url: str
    expected: ExpectedFile


def slowest_rate() -> float:
    """Return the rate in bytes per second below which a mirror counts as slow.

    Raises:
        UsageError: the variable is not a rate.
    """
    return 1000 * environment_number(SLOWEST_VARIABLE, SLOWEST, low=0, high=1e9, unit="kB/s")


def download(remote: RemoteFile, folder: Path, say: Callable[[str], None], *, is_patient: bool) -> Path:
    """Download `remote` into `folder` and return its path; a partial download is resumed.

    Args:
        is_patient: accept a slow mirror, as there is no other.

    Raises:
        MirrorSlow: less than the slowest rate over `SLOW_AFTER` seconds; the partial file is kept.
        MirrorFailed: the mirror is unreachable, answers with an error, or sends another file.
        DataError: the folder cannot be written.
    """
    partial = _partial(remote, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _fetched(remote, partial, folder / remote.expected.name, say, is_patient=is_patient)
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be written: {error.strerror or error}") from error


def _partial(remote: RemoteFile, folder: Path) -> Path:
    tag = hashlib.sha256(remote.url.encode(errors="surrogateescape")).hexdigest()[:8]
    return folder / f".{remote.expected.name}.{tag}.partial"


def _fetched(remote: RemoteFile, partial: Path, target: Path, say: Callable[[str], None], *, is_patient: bool) -> Path:
    fruitless, before, reason, restarted = 0, _size(partial), "", False
    while fruitless < RETRIES:
        was_resumed = before > 0
        try:
            _transfer(remote, partial, say, is_patient=is_patient)
        except TransferError as error:
            reason = str(error)
            if error.is_final:
                raise MirrorFailed(reason) from error
            after = _size(partial)
            fruitless = 0 if after - before >= CHUNK else fruitless + 1
            before = after
            if fruitless < RETRIES:
                time.sleep(PAUSE)
            continue
        wrong = _wrong(partial, remote.expected)
        if not wrong:
            partial.replace(target)
            return target
        begins = partial.read_bytes()[:15]
        partial.unlink()
        if not was_resumed or restarted:
            raise MirrorFailed(f"it sent another file: {wrong}; it begins with {begins!r}")
        before, restarted = 0, True  # the earlier part may be damaged: try once more from the start
    raise MirrorFailed(reason)


def _transfer(remote: RemoteFile, partial: Path, say: Callable[[str], None], *, is_patient: bool) -> None:
    """Append to `partial` until the server has sent everything.

    Raises:
        MirrorSlow: as `download` raises it.
        TransferError: an error of the network or of the server.
    """
    start = _size(partial)
    headers = {"Accept-Encoding": "identity", "User-Agent": "cifar-lab"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with http_client.answer(remote.url, headers) as (response, deadline):
        start = _accepted(response, start, partial)
        limit = remote.expected.size or LARGEST
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and len(length.lstrip("0")) > len(str(limit)):
            raise TransferError(f"it would send more than the {limit:,} bytes that were expected", is_final=True)
        total = start + int(length.lstrip("0") or 0) if length.isdecimal() else remote.expected.size
        if total > limit:
            bound = f"expected {limit:,}" if remote.expected.size else f"at most {limit:,} are read"
            raise TransferError(f"it would send {total:,} bytes; {bound}", is_final=True)
        title = f"{remote.expected.name} from {http_client.host(remote.url)}"
        with partial.open("ab") as file, reported(title, start, total, say) as report:
            file.truncate(start)

            def write(data: bytes) -> None:
                deadline.extend()
                file.write(data)

            is_more = not _copy(response, write, report, start, limit, is_patient=is_patient)
        if is_more:
            partial.unlink(missing_ok=True)  # useless for resuming
            raise TransferError(f"it sends more than the {limit:,} bytes that were expected", is_final=True)
        if (size := _size(partial)) < total or deadline.is_over:
            raise TransferError(f"the connection ended after {size:,} of {total:,} bytes")


def _copy(
    response: requests.Response, write: Callable[[bytes], object], report: Report, start: int, limit: int, *,
    is_patient: bool,
) -> bool:  # fmt: skip
    """Copy the response, and measure its rate; return True if it was complete, with at most `limit` bytes."""
    import urllib3

    slowest = 0.0 if is_patient else slowest_rate()
    done, since, mark = start, time.monotonic(), start
    last = since
    while True:
        try:
            data = response.raw.read1(CHUNK)  # returns what is available, so that a slow rate is noticed
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransferError(http_client.innermost_cause(error)) from error
        if not data:
            return True
        done += len(data)
        if done > limit:
            return False
        write(data)
        report(done)
        last = time.monotonic()
        if last - since >= SLOW_AFTER:
            if (rate := (done - mark) / (last - since)) < slowest:
                raise MirrorSlow(rate)
            since, mark = last, done


def _accepted(response: requests.Response, start: int, partial: Path) -> int:
    """Return the offset of the response in the file: `start`, or 0 if the server sends the whole file again."""
    if response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return start
    if response.status_code == 200:
        return 0
    if start:  # the server cannot resume: start over next time
        partial.unlink(missing_ok=True)
        if response.status_code in (206, 416):
            raise TransferError(f"HTTP {response.status_code} for the rest of the file")
    is_final = response.status_code < 500 and response.status_code not in (408, 425, 429)
    raise TransferError(f"HTTP {response.status_code} {response.reason}", is_final=is_final)


def _wrong(path: Path, expected: ExpectedFile) -> str:
    """Return what is wrong with a complete file, or an empty text."""
    if expected.size and _size(path) != expected.size:
        return f"{_size(path):,} bytes, and {expected.size:,} were expected"
    if expected.digest and checksum(path, expected.algorithm) != expected.digest:
        return f"its {expected.algorithm} is not {expected.digest}"
    return ""


def checksum(path: Path, algorithm: str) -> str:
    """Return the md5 or sha256 of a file in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

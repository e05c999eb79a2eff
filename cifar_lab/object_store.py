"""Object stores: addresses such as `s3://bucket/path`, and reads, conditional writes and lists of their objects.

The only module that knows `fsspec`. S3 is the one kind of store that is used: a lease needs writes that the server
refuses if another process was faster (`If-None-Match`, `If-Match`), and these are not part of fsspec's interface.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from cifar_lab.errors import ObjectStoreError, UsageError, first_line

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
S3_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^\x00-\x1f\x7f]*))?")
AT_ONCE = 16
"""Number of objects that are read at the same time."""
TIMES: dict[str, Any] = {
    "connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3, "mode": "standard"},
}  # fmt: skip
"""Seconds and tries of each request."""
WHY_NOT = {
    "memory": "it would be gone with this process",
    "http": "a web server keeps no records",
    "https": "a web server keeps no records",
}
"""Reasons for refusing a kind of address."""
LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "fsspec")
"""Libraries whose errors mean that the store does not answer."""
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine a role"


copies: dict[Path, str] = {}
"""Addresses of runs folders, and paths of packed studies, by their local copies that this process has opened."""


def with_addresses(text: str) -> str:
    """Return a message with what local copies are copies of in place of the copies' paths."""
    for folder, address in copies.items():
        text = text.replace(str(folder), address)
    return text


class WriteConflict(Exception):
    """The object is not as the writer last saw it; nothing was written."""


class ObjectEntry(NamedTuple):
    """Version of an object, as a list has it."""

    etag: str
    size: int
    age: float
    """Seconds since it was written, by the clock of the server alone."""


class StoredObject(NamedTuple):
    """Content of an object, with its version."""

    content: bytes
    etag: str
    age: float
    """Seconds since it was written, by the clock of the server alone."""


def is_address(text: str) -> bool:
    """Tell whether a text is an address, `scheme://…`, and not a path."""
    return ADDRESS.match(text) is not None


def parse_address(text: str, option: str) -> Path | str:
    """Return the path of a `file://` address, and an address of S3 without a slash at its end.

    Raises:
        UsageError: any other address; `option` begins the message.
    """
    scheme = text.partition("://")[0].lower()
    if scheme == "file":
        place = urlsplit(text)
        if place.netloc not in {"", "localhost"} or not place.path.startswith("/"):
            raise UsageError(f"{option} {text}: the path of a file address is absolute: file:///home/…")
        return Path(unquote(place.path))
    if scheme != "s3":
        reason = WHY_NOT.get(scheme, "conditional writes, by which one machine at a time holds a cell, are known of S3")
        raise UsageError(f"{option} {text}: not used: {reason}; give s3://BUCKET/PATH or a folder")
    match = S3_ADDRESS.fullmatch(text)
    if match is None:
        hint = "; credentials do not belong into an address" if "@" in text else ""
        raise UsageError(f"{option} {text}: an address is s3://BUCKET/PATH, with a bucket of a-z, 0-9, - and .{hint}")
    parts = [part for part in (match["prefix"] or "").split("/") if part]
    if any(part in {".", ".."} for part in parts):
        raise UsageError(f"{option} {text}: neither . nor .. is a part of an address")
    return "/".join([f"s3://{match['bucket']}", *parts])


class ObjectStore:
    """Objects below an address of S3, by their names relative to it."""

    def __init__(self, address: str) -> None:
        """Take an address as `parse_address` returns it; nothing is contacted yet."""
        self.address = address
        self._bucket, _, prefix = address.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    @cached_property
    def _files(self) -> Any:
        """Return fsspec's file system of S3, which finds endpoint and credentials as other tools do.

        Raises:
            UsageError: its package is not installed.
        """
        try:
            import fsspec

            return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False, config_kwargs=TIMES)
        except ImportError as error:
            raise UsageError(f"{self.address} needs s3fs: `pip install 'cifar-lab[s3]'` installs it") from error

    def list_objects(self, under: str = "") -> tuple[dict[str, ObjectEntry], bool]:
        """Return the objects whose names begin with `under`, and whether they were listed by one request.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        found: dict[str, ObjectEntry] = {}
        more: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=self._prefix + under, **more)
            for each in page.get("Contents", ()):
                name = str(each["Key"]).removeprefix(self._prefix)
                found[name] = ObjectEntry(each["ETag"], each["Size"], _age(page, each["LastModified"]))
            if not page.get("IsTruncated"):
                return found, not more
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def read(self, name: str) -> StoredObject | None:
        """Return an object; None if there is none of this name.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        return self.read_many([name])[name]

    def read_many(self, names: Iterable[str]) -> dict[str, StoredObject | None]:
        """Return objects by name, several at the same time; None for what is not there.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        from fsspec.asyn import sync

        files, names = self._files, list(names)

        async def read_one(name: str, free: asyncio.Semaphore) -> StoredObject | None:
            async with free:
                try:
                    answer = await files._call_s3("get_object", Bucket=self._bucket, Key=self._prefix + name)
                except FileNotFoundError:
                    return None
                async with answer["Body"] as stream:
                    content = await stream.read()
                return StoredObject(content, answer["ETag"], _age(answer, answer["LastModified"]))

        async def read_all() -> list[StoredObject | None]:
            free = asyncio.Semaphore(AT_ONCE)
            return list(await asyncio.gather(*(read_one(name, free) for name in names)))

        if not names:
            return {}
        try:
            contents = sync(files.loop, read_all)
        except Exception as error:
            self._raise(error)
            raise
        return dict(zip(names, contents, strict=True))

    def look(self, name: str) -> ObjectEntry | None:
        """Return the version of an object; None if there is none of this name.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        try:
            answer = self._call("head_object", Key=self._prefix + name)
        except FileNotFoundError:
            return None
        return ObjectEntry(answer["ETag"], answer["ContentLength"], _age(answer, answer["LastModified"]))

    def write(self, name: str, content: bytes) -> str:
        """Write an object, whatever is there, and return its new etag.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        return str(self._call("put_object", Key=self._prefix + name, Body=content)["ETag"])

    def write_if(self, name: str, content: bytes, etag: str | None) -> str:
        """Write an object if its etag is still `etag` (None: if there is none of this name), and return its new one.

        Raises:
            WriteConflict: it is another; or it is this writer's own, if an answer was lost and the request repeated.
            ObjectStoreError: the store does not answer, or refuses.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            return str(self._call("put_object", Key=self._prefix + name, Body=content, **condition)["ETag"])
        except FileNotFoundError as error:  # there is nothing of this name that could match
            raise WriteConflict(name) from error

    def delete(self, name: str, etag: str | None = None) -> None:
        """Delete an object, with `etag` only if it is still this one; one that is not there is ignored.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        condition = {} if etag is None else {"IfMatch": etag}
        try:
            self._call("delete_object", Key=self._prefix + name, **condition)
        except (FileNotFoundError, WriteConflict):
            return

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
        """
        source = {"Bucket": self._bucket, "Key": self._prefix + name}
        self._call("copy_object", Key=self._prefix + to, CopySource=source)

    def download(self, name: str, path: Path) -> None:
        """Write an object of any size to a file, which may be left incomplete by an error.

        Raises:
            ObjectStoreError: the store does not answer, or refuses.
            OSError: the file cannot be written.
        """
        try:
            self._files.get_file(f"{self._bucket}/{self._prefix}{name}", str(path))
        except Exception as error:
            if not isinstance(error, OSError) or error.filename is None:
                self._raise(error)
            raise

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return self._files.call_s3(method, Bucket=self._bucket, **arguments)
        except Exception as error:
            self._raise(error)
            raise

    def _raise(self, error: Exception) -> None:
        """Raise an error of fsspec or botocore as one of this module; return for any other, a missing object included.

        Raises:
            WriteConflict: a condition did not hold.
            ObjectStoreError: the store does not answer, or refuses.
        """
        answer = getattr(error.__cause__, "response", None) or {}
        code = str(answer.get("Error", {}).get("Code", ""))
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 412 or code in {"PreconditionFailed", "ConditionalRequestConflict"}:
            raise WriteConflict(code) from error
        if code == "NoSuchBucket":
            raise ObjectStoreError(f"{self.address}: there is no bucket '{self._bucket}'") from error
        if isinstance(error, FileNotFoundError | UsageError):
            return
        self.__dict__.pop("_files", None)  # the next request looks for endpoint and credentials again
        line = first_line(error) or type(error).__name__
        if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}:
            raise ObjectStoreError(f"{self.address}: no credentials: {CREDENTIALS}") from error
        if status in {401, 403} or isinstance(error, PermissionError):
            raise ObjectStoreError(f"{self.address}: access denied ({code or line})") from error
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in LIBRARIES:
            raise ObjectStoreError(f"{self.address}: {line}") from error


def _age(answer: Any, written: datetime) -> float:
    """Return the age in seconds of an object in an answer, at the time of the answer by the same clock."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date) if date else datetime.now(written.tzinfo)
    return max(0.0, (now - written).total_seconds())

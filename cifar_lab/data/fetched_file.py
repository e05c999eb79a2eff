"""Images on an object store: an archive is fetched into the cache once per machine, and again when it changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from cifar_lab.data import cache
from cifar_lab.errors import DataError
from cifar_lab.object_store import ObjectStore

FOLDER = "fetched"


def fetch_file(address: str, say: Callable[[str], None]) -> Path:
    """Return the local copy of the archive at an address of S3, or of a file that a `file://` address names.

    If several processes of a machine ask at once, one fetches it and the others wait.

    Raises:
        DataError: there is no such object, or the cache cannot be written.
        ObjectStoreError: the store does not answer, or refuses.
    """
    if not address.startswith("s3://"):
        return Path(address)
    above, _, name = address.rpartition("/")
    if above == "s3:/":
        raise DataError(f"data {address}: a bucket; give the address of an archive in it, {address}/cifar10.zip")
    store = ObjectStore(above)
    found = store.look(name)
    if found is None:
        raise DataError(f"data {address}: there is no such object; a folder of images has to be one archive")
    version = hashlib.sha256(f"{address}\n{found.etag}".encode()).hexdigest()[:16]
    path = cache.root() / FOLDER / version / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if not path.exists():
                say(f"fetching {address}, {found.size / 2**20:,.0f} MiB, once")
                partial = path.with_name(f".{name}.partial")
                try:
                    store.download(name, partial)
                    if partial.stat().st_size != found.size:
                        raise DataError(f"data {address}: it changed while it was fetched; try again")
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"data {address}: {path.parent} cannot be written: {error.strerror or error}") from error
    return path

"""Counts of the requests of this process to object stores, and of their bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cifar_lab.object_store import ObjectStore, StoredObject

KINDS = {
    "list_objects_v2": "LIST", "head_object": "HEAD", "put_object": "PUT", "delete_object": "DELETE",
    "copy_object": "COPY",
}  # fmt: skip
SENT, READ = "bytes sent", "bytes read"


@contextmanager
def counted_requests() -> Iterator[Counter[str]]:
    """Count requests by kind, and the bytes of objects in either direction, while the body runs."""
    call, read_many, counts = ObjectStore._call, ObjectStore.read_many, Counter[str]()

    def counted_call(store: ObjectStore, method: str, **arguments: Any) -> Any:
        counts[KINDS[method]] += 1
        counts[SENT] += len(arguments.get("Body", b""))
        return call(store, method, **arguments)

    def counted_reads(store: ObjectStore, names: Iterable[str]) -> dict[str, StoredObject | None]:
        found = read_many(store, names)
        counts["GET"] += len(found)
        counts[READ] += sum(len(each.content) for each in found.values() if each is not None)
        return found

    ObjectStore._call, ObjectStore.read_many = counted_call, counted_reads  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        ObjectStore._call, ObjectStore.read_many = call, read_many  # type: ignore[method-assign]

"""CIFAR-10 itself (Krizhevsky, 2009), fetched once by torchvision, which checks every file's md5."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.data.dataset import Dataset, Images, Labels, content_hash
from cifar_lab.errors import DataError

PATIENCE = 30.0
"""Seconds without a byte after which the server counts as out of reach; torchvision would wait for ever."""


def fetch(folder: Path, say: Callable[[str], None] = lambda _: None) -> Dataset:
    """CIFAR-10 from `folder`, downloaded into it (170 MB) unless it is there, whole. Raises DataError.

    A download that was cut off fails torchvision's checksum, and is then made again rather than read.
    """
    say("importing torchvision to fetch CIFAR-10 (170 MB), once")
    from torchvision.datasets import CIFAR10  # 4 seconds: only when the cache has no CIFAR-10

    with _network_explained(CIFAR10.url), redirect_stdout(sys.stderr):  # stdout may be carrying JSON
        train = CIFAR10(root=str(folder), train=True, download=True)
        test = CIFAR10(root=str(folder), train=False, download=False)
    classes = tuple(train.classes)
    arrays = (*_arrays(train), *_arrays(test))
    return Dataset(
        name="CIFAR-10",
        kind="cifar10",
        classes=classes,
        train_images=arrays[0],
        train_labels=arrays[1],
        test_images=arrays[2],
        test_labels=arrays[3],
        hash=content_hash(classes, *arrays),
    )


def _arrays(part: Any) -> tuple[Images, Labels]:
    """(N, 32, 32, 3) pixels and (N,) labels; torchvision's pixels are a transposed view of (N, 3, 32, 32)."""
    return np.ascontiguousarray(part.data), np.asarray(part.targets, dtype=np.int64)


@contextmanager
def _network_explained(url: str) -> Iterator[None]:
    """Bounds each wait for the network, and says what works without one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    except (
        OSError,
        HTTPException,
        RuntimeError,
    ) as error:  # RuntimeError: torchvision's, for a wrong checksum
        reason = " ".join(str(error).removeprefix("<urlopen error ").removesuffix(">").split())
        raise DataError(
            f"CIFAR-10 could not be fetched from {url}: {reason}; without network use --data PATH "
            "(a folder or zip of train/<class>/* and test/<class>/*) or --data synthetic"
        ) from error
    finally:
        socket.setdefaulttimeout(before)

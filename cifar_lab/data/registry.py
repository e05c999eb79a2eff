"""Data sets of users: `--data NAME` of an entry point, or `--data module:function`, with options as in an address.

`--data mylab.data:blobs?side=16&classes=5` calls `blobs(side=16, classes=5)`, which returns class names and
`ImageArrays`. It is called each time that a command begins, since it may read files, and its images are kept in the
cache under their hash: workers map those of their plan. The images of an `Extension` with a version are a function of
its source, version, options and the current folder, and are kept under these.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from cifar_lab import extension
from cifar_lab.data import cache, validation
from cifar_lab.data.dataset import Dataset, ImageArrays
from cifar_lab.data.messages import short_line
from cifar_lab.errors import DataError, RecipeError


def load_registered(source: str, target: str, planned: str | None = None) -> Dataset:
    """Return the images of a user's data set.

    `planned`: hash of the images that are wanted; if they are kept, they are not made again.

    Raises:
        DataError: it cannot be imported, or its images are not valid.
    """
    if planned is not None and (kept := cache.kept(_key_of_images(planned))) is not None and kept.hash == planned:
        return replace(kept, name=_name(source))
    options = _options(source)
    try:
        extension.check_options("datasets", target, options)
        extension.require_unchanged("datasets", target)
        is_versioned = extension.load_extension("datasets", target).version is not None
        key = _key_of_version(target, options) if is_versioned else None
    except RecipeError as error:
        raise DataError(f"data {source!r}: {error}") from error
    if key is not None:
        kept = cache.open_or_make(key, lambda: _make(source, target, options))
    else:
        made = _make(source, target, options)
        kept = cache.open_or_make(_key_of_images(made.hash), lambda: made)
    return replace(kept, name=_name(source))


def _key_of_images(hash: str) -> str:
    return f"images-{hash}"


def _key_of_version(target: str, options: dict[str, Any]) -> str:
    """Return the key of images that depend on their version, options, source and the current folder alone."""
    known = extension.identity("datasets", target, options)
    known |= {"source": extension.imported_source("datasets", target), "folder": str(Path.cwd())}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _name(source: str) -> str:
    """Return the name in tables of a data set: `blobs?side=16`."""
    return source.rpartition(":")[2]


def _options(source: str) -> dict[str, Any]:
    """Parse `side=16&kind=noise` behind the name: values are JSON, else text.

    Raises:
        DataError: an option is given twice.
    """
    options: dict[str, Any] = {}
    for name, value in parse_qsl(source.partition("?")[2], keep_blank_values=True):
        if name in options:
            raise DataError(f"data {source!r}: the option '{name}' is given twice")
        options[name] = value
        with suppress(ValueError):
            options[name] = json.loads(value)
    return options


def _make(source: str, target: str, options: dict[str, Any]) -> Dataset:
    try:
        classes, arrays = extension.build("datasets", target, options)
        arrays = ImageArrays(*map(np.ascontiguousarray, arrays))
    except RecipeError as error:
        raise DataError(f"data {source!r}: {error}") from error
    except Exception as error:  # a user's code may raise anything
        raise DataError(f"data {source!r}: {type(error).__name__}: {short_line(error)}") from error
    classes = tuple(map(str, classes))
    try:
        _check(classes, arrays)
    except DataError as error:
        raise DataError(f"data {source!r}: {error}") from error
    return Dataset.of(_name(source), "registered", classes, arrays)


def _check(classes: tuple[str, ...], arrays: ImageArrays) -> None:
    """Check types, shapes and labels.

    Raises:
        DataError: they are not those of `ImageArrays`.
    """
    for split, images, labels in (
        ("train", arrays.train_images, arrays.train_labels),
        ("test", arrays.test_images, arrays.test_labels),
    ):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise DataError(
                f"images of {split} are {images.shape} of {images.dtype}; expected (N, side, side, 3) uint8"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise DataError(f"labels of {split} are {labels.shape} of {labels.dtype}; expected (N,) int64")
        validation.check_side(f"an image of {split}", images.shape[2], images.shape[1])
    validation.check_same_side(arrays.train_images.shape[1], arrays.test_images.shape[1])
    validation.check_classes(classes, arrays.train_labels.tolist(), arrays.test_labels.tolist())

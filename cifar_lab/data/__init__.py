"""Where images come from: `load("cifar10")`, `load("synthetic")`, or `load` of a folder or zip of images.

Nothing heavy is imported before a source needs it: a source that was decoded before loads in milliseconds.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_lab.errors import DataError, nearest

if TYPE_CHECKING:
    from cifar_lab.data.dataset import Dataset

__all__ = ["NAMES", "load"]

NAMES = ("cifar10", "synthetic")
"""The sources that are no path. A folder of one of these names is still reached as `./cifar10`."""


def load(source: str, *, say: Callable[[str], None] = lambda _: None) -> Dataset:
    """The images of `source`: one of `NAMES`, or the path of a folder or zip. They are decoded once and kept.

    `say` is told, one line at a time, of what takes more than a moment. Raises DataError.
    """
    if source == "synthetic":
        from cifar_lab.data.synthetic import generate

        return generate()

    from cifar_lab.data import cache, cifar10, image_folder

    if source == "cifar10":
        return cache.open_or_make("cifar10", lambda: cifar10.fetch(cache.root() / "downloads", say))
    path = _existing(source)
    return cache.open_or_make(image_folder.key(path), lambda: image_folder.decode(path, say))


def _existing(source: str) -> Path:
    """The absolute path that `source` stands for; refused with the nearest name when nothing is there."""
    try:
        return Path(source).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        rule = f"data {source!r} is neither {', '.join(NAMES)} nor a folder or zip that can be reached"
        raise DataError(rule + _hint(Path(source))) from error


def _hint(path: Path) -> str:
    """The folder or zip beside `path`, or the name of a source, that its writer most likely meant."""
    names = list(NAMES) if path.parent == Path() else []
    with suppress(OSError, ValueError):
        names += [p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix.lower() == ".zip"]
    for spelling in (path.name, path.name.lower()):
        if close := difflib.get_close_matches(spelling, names, n=1, cutoff=0.5):
            return nearest(spelling, close)
    return ""

"""Image sources: `load` of a name in `NAMES` or of a path; docs/data.md lists the formats.

Heavy modules are imported only if a source needs them: a source that was decoded before loads in milliseconds.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_lab import extension
from cifar_lab.data.messages import shown
from cifar_lab.data.progress import silent
from cifar_lab.errors import DataError, RecipeError, nearest
from cifar_lab.object_store import is_address, parse_address

if TYPE_CHECKING:
    from cifar_lab.data.dataset import Dataset

__all__ = ["NAMES", "absolute", "load", "require_source"]

NAMES = ("cifar10", "cifar100", "synthetic")
"""Sources that are not paths. A folder with one of these names is reached as `./cifar10`."""
ENDINGS = (".zip", ".npz", ".tar", ".tgz", ".gz", ".bz2")
"""File extensions for suggestions after a mistyped name."""


def load(source: str, *, say: Callable[[str], None] = silent, planned: str | None = None) -> Dataset:
    """Return the images of `source`, one of `NAMES`, a path or the address of an archive, decoded once and kept.

    The images of a user's data set are made each time, as they may have changed.

    Args:
        source: as `--data` takes it.
        say: called with one line at a time before operations that take more than a moment.
        planned: hash of the images that a plan was made for; a user's data set with these, if kept, is not made again.

    Raises:
        DataError: the source cannot be read as square images in classes.
    """
    if source == "synthetic":
        from cifar_lab.data.synthetic import generate

        return generate()

    from cifar_lab.data import cache, cifar10, cifar100, sources

    if source == "cifar10":
        return cache.open_or_make("cifar10", lambda: cifar10.find_or_download(cache.root() / "downloads", say))
    if source == "cifar100":
        return cache.open_or_make("cifar100", lambda: cifar100.find_or_download(cache.root() / "downloads", say))
    if (target := _target(source)) is not None:
        from cifar_lab.data.registry import load_registered

        return load_registered(source, target, planned)
    if is_address(source):
        from cifar_lab.data.fetched_file import fetch_file

        path = fetch_file(_absolute(source), say)
    else:
        path = _existing(source)

    def decode() -> Dataset:
        return sources.read_source(path, say, reference=cache.kept("cifar10"))

    return cache.open_or_make(sources.key(path), decode)


def require_source(source: str) -> None:
    """Check, without reading images, that a source which is a path is there, and that a folder has a known layout.

    Raises:
        DataError: it is not, or has none.
    """
    if source in NAMES or is_address(source) or _target(source) is not None:
        return
    if (path := _existing(source)).is_dir():
        from cifar_lab.data.sources import require_layout

        require_layout(path)


def absolute(source: str) -> str:
    """Return `source` in a form that is valid in any folder: one of `NAMES`, an absolute path without `~`, an address.

    Raises:
        DataError: it is empty.
        UsageError: an address that is not used.
    """
    _refuse_empty(source)
    return source if source in NAMES or _target(source) is not None else _absolute(source)


def _absolute(source: str) -> str:
    """Return the absolute path of a path or of a `file://` address; another address, as it is known."""
    if is_address(source):
        return str(parse_address(source, "data"))
    return str(Path(source).expanduser().resolve())


def _target(source: str) -> str | None:
    """Return the `module:function` that a source names, by itself or by an entry point; None for any other source.

    Raises:
        DataError: two packages register that name.
    """
    name = source.partition("?")[0]
    if extension.TARGET.fullmatch(name):
        return name
    if name in NAMES or "/" in name:
        return None
    try:
        return extension.find_target("datasets", name)
    except RecipeError as error:
        raise DataError(f"data {shown(source)}: {error}") from error


def _refuse_empty(source: str) -> None:
    if not source:  # an empty path would be the current folder
        raise DataError(f"data '' is empty; give {', '.join(NAMES)} or a path (. is the current folder)")


def _existing(source: str) -> Path:
    """Return the absolute path of `source`; if it does not exist, the error suggests the nearest name."""
    _refuse_empty(source)
    try:
        return Path(source).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        rule = f"data {shown(source)} is neither {', '.join(NAMES)} nor a folder or zip that can be reached"
        raise DataError(rule + _hint(Path(source))) from error


def _hint(path: Path) -> str:
    """Return the folder or file beside `path`, or the name of a source or data set, that was most likely meant."""
    path = Path(str(path).partition("?")[0])  # options of a user's data set follow
    names = [*NAMES, *extension.registered("datasets")] if path.parent == Path() else []
    with suppress(OSError, ValueError, RuntimeError):
        beside = path.expanduser().parent.iterdir()
        names += [p.name for p in beside if p.is_dir() or p.suffix.lower() in ENDINGS]
    for spelling in (path.name, path.name.lower()):
        if close := difflib.get_close_matches(spelling, names, n=1, cutoff=0.5):
            return nearest(spelling, close)
    return ""

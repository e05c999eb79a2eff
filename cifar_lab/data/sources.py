"""Read the images of a path in any format: select the reader, and validate its result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cifar_lab.data import array_files as stored
from cifar_lab.data import cifar_batches, file_tree, image_folder, layouts, original_images, validation
from cifar_lab.data.dataset import Dataset, ImageArrays, Kind, Labels
from cifar_lab.data.messages import short_line, shown, title
from cifar_lab.errors import DataError

VERSION = "2"
"""Version, increased when the same files decode to other pixels or another order."""
ACCEPTED = (
    "cifar-10-python.tar.gz, cifar-10-batches-py/, cifar-10-binary.tar.gz, cifar-10-batches-bin/, "
    "cifar-100-python.tar.gz, cifar-100-python/, "
    "train-*.parquet with test-*.parquet, an npz, or train/<class>/* with test/<class>/* in a folder, zip or tar"
)
"""Data formats, for messages; docs/data.md has the whole list."""


class _Read(NamedTuple):
    """One source as read, before validation."""

    classes: tuple[str, ...]
    arrays: ImageArrays
    train_rank: Labels | None = None
    test_rank: Labels | None = None
    original: Kind | None = None
    """Published data set that these images are, in its order, by the checksums of the files."""
    note: str = ""


def key(path: Path) -> str:
    """Return the SHA-256, 64 hex digits, of the path and of its files' names, sizes and times."""
    with naming_source(path):
        if path.is_dir():
            tree = file_tree.folder_files(path)
            state = [f"{name} {tree.state(name)}" for name in layouts.detect_layout(tree).files]
        else:
            found = path.stat()
            state = [f" {found.st_size} {found.st_mtime_ns}"]
    return hashlib.sha256("\0".join([VERSION, str(path), *state]).encode(errors="surrogateescape")).hexdigest()


def require_layout(folder: Path) -> None:
    """Check that the files of a folder are laid out as a data set.

    Raises:
        DataError: they are not.
    """
    with naming_source(folder):
        layouts.detect_layout(file_tree.folder_files(folder))


def read_source(
    path: Path, say: Callable[[str], None] = lambda _: None, *, reference: Dataset | None = None
) -> Dataset:
    """Return every image of the folder or file `path`. `say` is called before operations that take more than a moment.

    Args:
        reference: the original CIFAR-10, if it was read before; images equal to it in any order are recognised.

    Raises:
        DataError: not a data set of square images in classes, or damaged.
    """
    with naming_source(path):
        name = path.name if path.is_dir() else title(path.name)
        read = _read(path, lambda what, folder: say(f"decoding {what} of {name}{folder and f' in {folder}'}, once"))
        validation.check_classes(read.classes, read.arrays.train_labels.tolist(), read.arrays.test_labels.tolist())
        validation.check_same_side(read.arrays.train_images.shape[1], read.arrays.test_images.shape[1])
        if read.original == "cifar100":
            return Dataset.of(original_images.NAME_100, "cifar100", read.classes, read.arrays)
        arrays = (
            read.arrays
            if read.original == "cifar10"
            else original_images.in_order(read.arrays, read.train_rank, read.test_rank)
        )
        if arrays is None and reference is not None and original_images.same_images(read.arrays, reference.arrays):
            arrays = reference.arrays
        if arrays is not None:
            return Dataset.of(original_images.NAME, "cifar10", original_images.CLASSES, arrays)
        return Dataset.of(name + read.note, "path", read.classes, read.arrays)


@contextmanager
def naming_source(path: Path) -> Iterator[None]:
    """Prefix errors raised inside with the folder or file."""
    try:
        yield
    except DataError as error:
        raise DataError(f"data {shown(path)}: {error}") from error
    except OSError as error:
        raise DataError(f"data {shown(path)}: {short_line(error.strerror or error)}") from error


def _read(path: Path, say: Callable[[str, str], None]) -> _Read:
    if path.is_file() and file_tree.read_start(path).startswith(b"PAR1"):
        raise DataError("one parquet file; give the folder that holds train-*.parquet and test-*.parquet")
    with file_tree.opened(path) as tree:
        layout = layouts.detect_layout(tree)
        if layout.kind == "archive":
            return _read_inner(path, layout.train[0], say)
        if layout.kind in ("classes", "kaggle"):
            reader = image_folder.read_classes if layout.kind == "classes" else image_folder.read_kaggle
            decoded = reader(tree, layout, lambda what: say(what, layout.folder))
            note = " (test held out of train)" if layout.kind == "kaggle" else " (val as test)" * layout.is_val
            return _Read(*decoded, note=note)
        if layout.kind in ("python", "cifar100", "binary"):
            say("the batches", layout.folder)
            classes, arrays, original = cifar_batches.READERS[layout.kind](tree, layout.folder)
            return _Read(classes, arrays, original=original)
        if layout.kind == "parquet":
            say("the parquet files", layout.folder)
            held_out = list(layout.test)
            return _Read(
                *stored.read_parquet(tree, list(layout.train), held_out), note=" (val as test)" * layout.is_val
            )
        say("the arrays", layout.folder)
        classes, arrays, is_val = stored.read_npz(tree)
        return _Read(classes, arrays, note=" (val as test)" * is_val)


def _read_inner(path: Path, name: str, say: Callable[[str, str], None]) -> _Read:
    """Read the archive `name` in the folder `path`; one inside another archive must be unpacked by the user."""
    if not path.is_dir():
        raise DataError(f"it holds {shown(name)}; unpack it and give that file")
    return _read(path / name, say)

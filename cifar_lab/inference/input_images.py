"""Read images without labels: a competition's pickle, an npz, a folder, a zip or tar of images, or one image.

Nothing in a file is executed: pickles are read by `cifar_lab.data.unpickle`, arrays without pickled objects.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cifar_lab.config.images import CIFAR10_SHAPE
from cifar_lab.data import array_files, decoding, file_tree
from cifar_lab.data.cifar_batches import images_of_planes
from cifar_lab.data.dataset import Images
from cifar_lab.data.file_tree import FileTree
from cifar_lab.data.messages import short_line, shown
from cifar_lab.data.unpickle import unpickle
from cifar_lab.errors import DataError

ACCEPTED = "a pickle or npz with 'data', a folder, zip or tar of images, or one image"
LARGEST_PICKLE = 1 << 30
"""Maximum bytes of a pickle; 10,000 images of CIFAR take 31 million."""
MOST_IMAGES = 1_000_000
LEFT_OUT = 3
"""Most files that are no images which are named."""
IMAGES, IDS = ("data", "images", "x", "x_test", "test_images", "img", "imgs"), ("ids", "id", "index")
"""Names of arrays, in order of preference."""
ADVICE = "; --resize (in Python resize=True) fits it"
"""End of the error for images of another size."""
PICKLE_STARTS = (b"\x80", b"(", b"}", b"c")
"""First bytes of a pickle: of protocol 2 and later, of a text protocol, of a dictionary, and of a global name."""


@dataclass(frozen=True, kw_only=True)
class InputImages:
    """Images in the order of their answers."""

    images: Images
    """(N, side, side, 3) uint8."""
    ids: tuple[str, ...]
    """One for each image: as the file has them, else numbers from 0 up, or names of files."""
    has_own_ids: bool
    """False for numbers that were assigned here."""
    source: str
    """Name of the file or folder."""
    notes: tuple[str, ...] = ()
    """Sentences on what was done to the images."""

    def __len__(self) -> int:
        return len(self.images)


class Fit(NamedTuple):
    """Size of the images that networks take, and whether others are resized to it."""

    side: int = CIFAR10_SHAPE.side
    """Side in pixels."""
    resize: bool = False
    """True to fit images of other sizes, whose centre is taken; False to refuse them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the sentence on resized images, if some may be."""
        how = f"images of other sizes are fitted to {self.side}×{self.side}: the centre, bicubic with antialiasing"
        return (how,) if self.resize else ()


def read_images(path: str | Path, fit: Fit = Fit()) -> InputImages:  # noqa: B008 (immutable)
    """Return the images at `path`; files of a folder or archive in natural order: 2.png before 10.png.

    Raises:
        DataError: it is not there, or holds no such images; a pickle's error names what it wanted to import.
    """
    place = Path(path).expanduser()
    try:
        if not place.exists():
            raise DataError("no such file or folder")
        found = _read(place, fit)
        return replace(found, notes=tuple(dict.fromkeys(fit.notes + found.notes)))
    except DataError as error:
        raise DataError(f"input {shown(path)}: {error}") from error
    except OSError as error:
        raise DataError(f"input {shown(path)}: {short_line(error.strerror or error)}") from error


def images_of_array(array: Any, source: str = "array", fit: Fit = Fit()) -> InputImages:  # noqa: B008
    """Return images of an array, (N, side, side, 3), (N, 3, side, side) or (N, 3 · side²) uint8, planes first.

    Tensors, one image, and lists of images are taken like the array that numpy makes of them.

    Raises:
        DataError: it has another shape or type.
    """
    images = _as_images(source, _as_array(array), fit)
    ids = tuple(map(str, range(len(images))))
    return InputImages(images=images, ids=ids, has_own_ids=False, source=source, notes=fit.notes)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key by which numbers in names are compared as numbers."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _read(path: Path, fit: Fit) -> InputImages:
    if path.is_dir():
        with file_tree.opened(path) as tree:
            return _of_tree(tree, path, fit)
    start = file_tree.read_start(path)
    if start.startswith(b"PK") or file_tree.is_tar(start):
        with file_tree.opened(path) as tree:
            return _of_npz(tree, path, fit) if _is_npz(tree) else _of_tree(tree, path, fit)
    if path.suffix.lower() in decoding.EXTENSIONS:
        with file_tree.opened(path.parent) as tree:
            image = decode_pictures(tree, [path.name], fit)
        return InputImages(images=image, ids=(path.stem,), has_own_ids=True, source=path.name)
    if start.startswith(PICKLE_STARTS):
        return _of_pickle(path, fit)
    raise DataError(f"it starts with {start[:4]!r}; expected {ACCEPTED}")


def _decode(name: str, content: bytes, fit: Fit) -> Images:
    return decoding.decode_image(name, content, fit.side, resize=fit.resize, advice=ADVICE)


def _of_pickle(path: Path, fit: Fit) -> InputImages:
    if path.stat().st_size > LARGEST_PICKLE:
        raise DataError(f"larger than {LARGEST_PICKLE:,} bytes")
    content = unpickle(path.read_bytes())
    if not isinstance(content, dict):
        raise DataError(f"the pickle holds a {type(content).__name__}; expected a dictionary with 'data'")
    return _of_arrays({str(name): value for name, value in content.items()}, path, fit)


def _is_npz(tree: FileTree) -> bool:
    names = tree.listing("").files
    return bool(names) and all(name.endswith(".npy") for name in names)


def _of_npz(tree: FileTree, path: Path, fit: Fit) -> InputImages:
    names = [name for name in tree.listing("").files if name.removesuffix(".npy").lower() in (*IMAGES, *IDS)]
    if not names and len(tree.listing("").files) == 1:
        (alone,) = tree.listing("").files
        return _of_arrays({"data": array_files.read_array(tree, alone)}, path, fit)
    arrays = {name.removesuffix(".npy"): array_files.read_array(tree, name) for name in names}
    return _of_arrays(arrays, path, fit)


def _of_arrays(arrays: Mapping[str, Any], path: Path, fit: Fit) -> InputImages:
    """Return the images and ids of arrays by name."""
    by_name = {name.lower(): value for name, value in arrays.items()}
    key = next((name for name in IMAGES if name in by_name), None)
    if key is None:
        holds = ", ".join(map(shown, list(arrays)[:6])) or "nothing"
        raise DataError(f"no array named 'data'; it holds {holds}")
    images = _as_images(key, by_name[key], fit)
    ids = next((by_name[name] for name in IDS if name in by_name), None)
    if ids is None:
        return images_of_array(images, path.name, fit)
    words = tuple(str(each) for each in (ids.ravel().tolist() if isinstance(ids, np.ndarray) else ids))
    if len(words) != len(images) or len(set(words)) != len(words):
        raise DataError(f"{len(images):,} images and {len(words):,} ids, {len(set(words)):,} of them different")
    return InputImages(images=images, ids=words, has_own_ids=True, source=path.name)


def _as_images(name: str, array: Any, fit: Fit) -> Images:
    """Convert (N, side, side, 3), (N, 3, side, side) or (N, 3 · side²), planes first, to (N, side, side, 3) uint8.

    Heights and widths of four-dimensional arrays may be others if they are to be resized.
    """
    side = fit.side
    if isinstance(array, np.ndarray) and array.dtype == np.uint8 and len(array):
        if array.ndim == 4 and array.shape[1:] == (side, side, 3):
            return np.ascontiguousarray(array)
        if array.shape[1:] in ((3, side, side), (3 * side * side,)):
            return images_of_planes(np.ascontiguousarray(array))
        channels_last = array.ndim == 4 and array.shape[3] == 3
        if array.ndim == 4 and (channels_last or array.shape[1] == 3) and min(array.shape) > 0 and fit.resize:
            pixels = array if channels_last else array.transpose(0, 2, 3, 1)
            return np.stack([np.asarray(decoding.fitted(Image.fromarray(each), side)) for each in pixels])
    form = f"{array.shape} of {array.dtype}" if isinstance(array, np.ndarray) else f"of the type {type(array).__name__}"
    shapes = f"(N, {side}, {side}, 3), (N, 3, {side}, {side}) or (N, {3 * side * side})"
    raise DataError(f"{shown(name)} is {form}; expected {shapes} of uint8, from 0 to 255{_advice(array, fit)}")


def _as_array(images: Any) -> Any:
    """Return the array that numpy makes of a tensor, an image or a list of images; one image gets a dimension."""
    if isinstance(images, Mapping | str | bytes):
        return images
    try:
        array = np.asarray(images)
    except (TypeError, ValueError, RuntimeError):  # of unequal sizes; on a GPU; part of a graph
        return images
    return array[None] if array.ndim == 3 and 3 in (array.shape[0], array.shape[2]) else array


def _advice(array: Any, fit: Fit) -> str:
    """Return what would mend an array that is refused; empty where nothing is known."""
    if not isinstance(array, np.ndarray) or not array.size or array.dtype.kind not in "fiu":
        return ""
    if array.dtype != np.uint8:
        return "; multiply fractions by 255, round, and convert with .astype('uint8')"
    has_channels = array.ndim == 4 and 3 in (array.shape[1], array.shape[3])
    return ADVICE if has_channels and not fit.resize else ""


def _of_tree(tree: FileTree, path: Path, fit: Fit) -> InputImages:
    names, notes = picture_names(tree, "")
    return InputImages(
        images=decode_pictures(tree, names, fit), ids=_ids(names), has_own_ids=True, source=path.name, notes=notes
    )


def picture_names(tree: FileTree, folder: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of the images below a folder in natural order, and a sentence on other files, if there are any.

    Raises:
        DataError: there are no images.
    """
    names = sorted(_files(tree, folder), key=natural_key)
    if not names:
        raise DataError(f"no images in it; expected {ACCEPTED}")
    pictures = [name for name in names if name.lower().endswith(decoding.EXTENSIONS)]
    others = [shown(name) for name in names if not name.lower().endswith(decoding.EXTENSIONS)]
    expected = ", ".join(decoding.EXTENSIONS)
    if not pictures:
        raise DataError(f"{others[0]} is not an image by its name; expected {expected}")
    named = ", ".join(others[:LEFT_OUT]) + (", …" if len(others) > LEFT_OUT else "")
    return pictures, (f"left out, not images by their names ({expected}): {len(others):,}, {named}",) if others else ()


def decode_pictures(tree: FileTree, names: Sequence[str], fit: Fit) -> Images:
    """Return the images of files, (N, side, side, 3) uint8.

    Raises:
        DataError: a file is no image, or of another size and not to be resized.
    """
    images = np.empty((len(names), fit.side, fit.side, 3), np.uint8)
    with warnings.catch_warnings(action="ignore"):  # Pillow's, on palettes and large photos, which are handled
        for at, name in enumerate(names):
            images[at] = _decode(name, tree.read(name, decoding.LARGEST_PHOTO), fit)
    return images


def _files(tree: FileTree, folder: str) -> Iterator[str]:
    """Yield the names of all files below a folder."""
    pending, count = [folder], 0
    while pending:
        here = pending.pop()
        prefix = f"{here}/" if here else ""
        listing = tree.listing(here)
        pending += [f"{prefix}{name}" for name in listing.folders]
        count += len(listing.files)
        if count > MOST_IMAGES:
            raise DataError(f"more than {MOST_IMAGES:,} files")
        yield from (f"{prefix}{name}" for name in listing.files)


def _ids(names: Sequence[str]) -> tuple[str, ...]:
    """Return the numbers that the files are named by, if all are, else their names; without their common folder."""
    stems = [name.rpartition("/")[2].rpartition(".")[0] for name in names]
    if all(stem.isdecimal() for stem in stems) and len(set(stems)) == len(stems):
        return tuple(stems)
    folders = {name.rpartition("/")[0] for name in names}
    common = f"{folders.pop()}/" if len(folders) == 1 else ""
    return tuple(name.removeprefix(common) if common != "/" else name for name in names)

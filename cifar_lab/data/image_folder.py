"""The images of `train/<class>/*` and `test/<class>/*`, in a folder or in a zip, which is never unpacked.

Ten classes, 32×32, PNG or JPEG. What cannot be used is refused before anything is kept, in one line that
names the file. Hidden files and `__MACOSX` are passed over, and so is whatever lies beside train/ and test/.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar_lab.data.dataset import Dataset, Images, Labels, content_hash
from cifar_lab.errors import DataError

CLASSES = 10
SIDE = 32
SPLITS = ("train", "test")
LAYOUT = "expected train/<class>/* and test/<class>/*"
EXTENSIONS = (".png", ".jpg", ".jpeg")
LARGEST = 1 << 20  # bytes of a file: 3 KiB of pixels, and room for the metadata of an editor
_BROKEN = (  # what zipfile and Pillow raise on bytes that are not what they claim to be
    *(OSError, EOFError, RuntimeError, ValueError, IndexError, TypeError, SyntaxError),
    *(BadZipFile, struct.error, zlib.error, lzma.LZMAError, Image.DecompressionBombError),
)


def key(path: Path) -> str:
    """64 hex digits, others after a change: sha256 of the path and of the files' names, sizes and times."""
    with _named(path):
        files = _walk(path) if path.is_dir() else [("", path.stat())]
        state = [str(path), *sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)]
    return hashlib.sha256("\0".join(state).encode(errors="surrogateescape")).hexdigest()


def decode(path: Path, say: Callable[[str], None] = lambda _: None) -> Dataset:
    """Every image of the folder or zip `path`, in the order of the files' names. Raises DataError."""
    with _named(path), _opened(path) as (names, read):
        places = {name: _place(name) for name in names}
        classes = _classes(Counter(places.values()))
        title = path.name if path.is_dir() else path.stem
        say(f"decoding {len(names):,} images of {title}, once")
        arrays: dict[str, np.ndarray] = {}
        for split in SPLITS:
            labels = {name: classes.index(label) for name, (s, label) in places.items() if s == split}
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = _arrays(labels, read)
    return Dataset(name=title, kind="path", classes=classes, **arrays, hash=content_hash(classes, **arrays))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the folder or zip in front of what is refused inside it."""
    try:
        yield
    except (DataError, OSError) as error:
        raise DataError(f"data {str(path)!r}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """The sorted names, `train/cat/1.png`, of the files of both splits, and the function that reads one."""
    if path.is_dir():
        yield sorted(name for name, _ in _walk(path)), lambda name: _read_file(path / name)
        return
    with _open_zip(path) as archive:
        members = _members(archive)
        yield sorted(members), lambda name: _read_member(archive, members[name])


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Name and stat of each file in `folder`'s train/ and test/; nothing beside these two is looked at."""
    below = [split for split in SPLITS if (folder / split).is_dir()]
    while below:
        inside = below.pop()
        for entry in [e for e in os.scandir(folder / inside) if not _hidden(e.name)]:
            name = f"{inside}/{entry.name}"
            if entry.is_dir() and inside in SPLITS:
                below.append(name)
            elif entry.is_file():
                yield name, entry.stat()
            else:  # a folder below a class, a broken link, a pipe that would never end
                raise DataError(f"{name!r} is not a file; {LAYOUT}")


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _open_zip(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except _BROKEN as error:
        start = _read_file(path)[:4]
        if start == b"PK\x03\x04":
            raise DataError(f"the zip is truncated or damaged ({error}); copy it again") from error
        raise DataError(f"neither a folder nor a zip: it starts with {start!r}") from error


def _members(archive: ZipFile) -> dict[str, ZipInfo]:
    """The zip's files in train/ and test/, by their names without a top folder that all of them share."""
    found = {i.filename: i for i in archive.infolist() if not (i.is_dir() or _hidden(i.filename))}
    tops = {name.partition("/")[0] for name in found}
    if len(tops) == 1 and tops.isdisjoint(SPLITS):
        found = {name.partition("/")[2]: member for name, member in found.items()}
    return {name: member for name, member in found.items() if name.partition("/")[0] in SPLITS}


def _read_member(archive: ZipFile, member: ZipInfo) -> bytes:
    try:
        with archive.open(member) as file:
            return file.read(LARGEST + 1)  # bounded, whatever size the zip's directory claims
    except _BROKEN as error:
        raise DataError(f"{member.filename!r} cannot be read from the zip: {error}") from error


def _hidden(name: str) -> bool:
    return "/." in f"/{name}" or name.startswith("__MACOSX/")


def _place(name: str) -> tuple[str, str]:
    """(split, class) of the file `name`; refused when it is not in a class's folder or has another ending."""
    split, *folders, file = name.split("/")
    if len(folders) != 1:
        raise DataError(f"{name!r} is not in the folder of a class; {LAYOUT}")
    if not file.lower().endswith(EXTENSIONS):
        raise DataError(f"{name!r} is not an image by its name; expected {', '.join(EXTENSIONS)}")
    if not folders[0].isprintable():
        raise DataError(f"the class name {folders[0]!r} is not printable text")
    return split, folders[0]


def _classes(images: Counter[tuple[str, str]]) -> tuple[str, ...]:
    """The ten class names, sorted, given how many images each (split, class) has."""
    train, test = ({label for s, label in images if s == split} for split in SPLITS)
    for split, here, there in (("train", train, test), ("test", test, train)):
        if not here:
            raise DataError(f"no images in {split}/; {LAYOUT}")
        if missing := sorted(there - here):
            raise DataError(f"class {missing[0]!r} has no images in {split}/; {LAYOUT}")
    classes = tuple(sorted(train))
    if len(classes) != CLASSES:
        shown = ", ".join(classes[:CLASSES]) + ", …" * (len(classes) > CLASSES)
        raise DataError(f"found {len(classes)} classes ({shown}); CIFAR-10 has {CLASSES}")
    for label in classes:
        if images["train", label] < 2:
            raise DataError(f"class {label!r} has 1 training image; at least 2 are needed, one to hold out")
    return classes


def _arrays(labels: dict[str, int], read: Callable[[str], bytes]) -> tuple[Images, Labels]:
    """(N, 32, 32, 3) pixels and (N,) labels of the files named in `labels`."""
    images = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    with warnings.catch_warnings(action="ignore"):  # Pillow's, of large images and palettes: dealt with below
        for index, name in enumerate(labels):  # one thread: with two, both wait for Python's lock (tried)
            images[index] = _pixels(name, read(name))
    return images, np.array(list(labels.values()), dtype=np.int64)


def _pixels(name: str, data: bytes) -> Images:
    """(32, 32, 3) pixels of a PNG or JPEG. Its size is read from the header, before any pixel is decoded."""
    if len(data) > LARGEST:
        raise DataError(f"{name!r} is larger than {LARGEST:,} bytes, which no {SIDE}×{SIDE} image needs")
    if _plain_jpeg(data):  # same pixels as below, without the half of the time that Image.open takes
        with suppress(ValueError):  # damaged: Image.open says how
            return np.asarray(Image.frombytes("RGB", (SIDE, SIDE), data, "jpeg", "RGB", ""))
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        if image.size != (SIDE, SIDE):
            raise DataError(f"{name!r} is {image.width}×{image.height}; expected {SIDE}×{SIDE}")
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{name!r} has pixels of mode {image.mode}; expected 8 bits a channel")
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except _BROKEN as error:
        reason = f"it starts with {data[:8]!r}" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{name!r} is not a whole PNG or JPEG image: {reason}") from error


def _plain_jpeg(data: bytes) -> bool:
    """Whether `data` is a JPEG whose frame header (ITU-T T.81, B.2.2) says 32×32, 3 channels, 8 bits."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while data[at : at + 1] == b"\xff":
        if data[at + 1 : at + 2] in (b"\xc0", b"\xc1", b"\xc2"):
            return data[at + 4 : at + 10] == bytes((8, 0, SIDE, 0, SIDE, 3))
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False

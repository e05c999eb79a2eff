"""Images that cannot be used: each fault is caused for real, told in one line, and leaves nothing behind."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from PIL import Image

from cifar_lab.data import load
from cifar_lab.errors import DataError

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Spoil = Callable[[Path], object]


@pytest.fixture(autouse=True)
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten classes of two training images and one test image, all as they should be."""
    image = encoded()
    for name in NAMES:
        for file in (f"train/{name}/0.png", f"train/{name}/1.png", f"test/{name}/0.png"):
            path = tmp_path / "pictures" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
    return tmp_path / "pictures"


def encoded(width: int = 32, height: int = 32, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A file of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises `side` × `side` pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, str(file.relative_to(folder)))
    return path


def refusal(source: str | Path, cache_root: Path) -> str:
    """The message with which `source` is refused: one line, and nothing is left of the attempt."""
    with pytest.raises(DataError) as caught:
        load(str(source))
    message = str(caught.value)
    assert "\n" not in message
    assert not cache_root.exists() or [p.name for p in cache_root.iterdir() if p.suffix != ".lock"] == []
    return message


def write(name: str, content: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return spoil


def remove(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for name in names:
            shutil.rmtree(folder / name)

    return spoil


def only(label: str) -> Spoil:
    """Remove the folders of all other classes."""
    return lambda folder: [
        shutil.rmtree(other) for s in ("train", "test") for other in (folder / s).iterdir() if other.name != label
    ]


def deep(colour: int) -> bytes:
    """A whole PNG of 16 bits a channel; colour type 0: grey, 2: RGB, 4: grey and alpha, 6: RGBA."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    header = b"IHDR" + struct.pack(">IIBBBBB", 32, 32, 16, colour, 0, 0, 0)
    data = b"IDAT" + zlib.compress((b"\0" + bytes(32 * 2 * channels)) * 32)
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def see_through(alpha: int, kind: str = "PNG") -> bytes:
    """An image whose first pixel has this alpha; all others are opaque."""
    file = io.BytesIO()
    image = Image.new("RGBA", (32, 32), (200, 100, 50, 255))
    image.putpixel((0, 0), (200, 100, 50, alpha))
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def keyed() -> bytes:
    """A PNG without alpha in which one colour stands for transparent."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (1, 2, 3)).save(file, "PNG", transparency=(1, 2, 3))
    return file.getvalue()


def animated(kind: str) -> bytes:
    file = io.BytesIO()
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    first.save(file, kind, save_all=True, append_images=[second])
    return file.getvalue()


CAT = "train/cat/1.png"
IN_BOTH: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "nothing in it": (
        remove("train", "test"),
        ("no images in train/", "expected train/<class>/* and test/<class>/*"),
    ),
    "no train": (remove("train"), ("no images in train/",)),
    "no test": (remove("test"), ("no images in test/",)),
    "a class not in test": (remove("test/frog"), ("class 'frog' has no images in test/",)),
    "a class not in train": (remove("train/frog"), ("class 'frog' has no images in train/",)),
    "one class": (only("cat"), ("found 1 class (cat)", "2 to 1,000 are supported")),
    "one training image": (lambda folder: (folder / CAT).unlink(), ("class 'cat' has 1 training image",)),
    "notes": (write("train/cat/notes.txt", b"a cat"), ("train/cat/notes.txt", ".png, .jpg, .jpeg")),
    "an image without a class": (write("train/0.png", encoded()), ("train/0.png", "train/<class>/*")),
    "an image below a class": (write("train/cat/more/2.png", encoded()), ("train/cat/more",)),
    "a class name of two lines": (
        write("train/cat\ndog/0.png", encoded()),
        (r"cat\ndog", "not printable"),
    ),
    "text called an image": (write(CAT, b"I am a cat"), (CAT, "not a whole PNG, JPEG or WebP", "b'I am a c'")),
    "an empty image": (write(CAT, b""), (CAT, "not a whole PNG, JPEG or WebP")),
    "a GIF called PNG": (write(CAT, encoded(kind="GIF")), (CAT, "not a whole PNG, JPEG or WebP", "GIF")),
    "a small PNG": (write(CAT, encoded(31, 31)), (CAT, "31×31", "expected 32×32")),
    "a small JPEG": (write("test/cat/0.jpg", encoded(31, 31, "JPEG")), ("test/cat/0.jpg", "31×31")),
    "a wide JPEG": (write("test/cat/0.jpg", encoded(64, 32, "JPEG")), ("test/cat/0.jpg", "64×32")),
    "a truncated PNG": (write(CAT, encoded()[:-200]), (CAT, "not a whole PNG, JPEG or WebP")),
    "a truncated JPEG": (
        write("train/cat/2.jpg", encoded(kind="JPEG")[:-2]),
        ("train/cat/2.jpg", "truncated"),
    ),
    "a JPEG's first bytes": (write("train/cat/2.jpg", encoded(kind="JPEG")[:9]), ("train/cat/2.jpg",)),
    "16 bits a pixel": (write(CAT, encoded(mode="I;16")), (CAT, "mode I;16", "8 bits")),
    **{
        f"16 bits a channel, {name}": (write(CAT, deep(colour)), (CAT, "8 bits a channel"))
        for colour, name in {0: "grey", 2: "RGB", 4: "grey and alpha", 6: "RGBA"}.items()
    },
    "a transparent pixel": (write(CAT, see_through(0)), (CAT, "transparent pixels")),
    "a pixel that is half transparent": (write(CAT, see_through(128)), (CAT, "transparent pixels")),
    "a transparent pixel in WebP": (write("train/cat/1.webp", see_through(0, "WEBP")), ("transparent pixels",)),
    "a transparent colour": (write(CAT, keyed()), (CAT, "transparent pixels")),
    "an animated PNG": (write(CAT, animated("PNG")), (CAT, "is an animation")),
    "an animated WebP": (write("train/cat/1.webp", animated("WEBP")), ("train/cat/1.webp", "is an animation")),
    "many pixels": (write(CAT, bomb(10_000)), (CAT, "10000×10000")),
    "more pixels than Pillow reads": (write(CAT, bomb(60_000)), (CAT, "3600000000 pixels")),
    "a large file": (write(CAT, encoded() + bytes(1 << 20)), (CAT, "larger than 1,048,576 bytes")),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("fault", IN_BOTH)
def test_a_bad_folder_or_zip_is_refused(folder: Path, cache_root: Path, fault: str, form: str) -> None:
    spoil, parts = IN_BOTH[fault]
    spoil(folder)
    source = folder if form == "folder" else zipped(folder)

    message = refusal(source, cache_root)
    for part in (str(source), *parts):
        assert part in message


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def corrupt(path: Path) -> None:
    """One bit of the second image's last bytes, which only the zip's checksum can tell."""
    content = bytearray(path.read_bytes())
    content[content.index(b"IEND", content.index(b"IEND") + 1) + 3] ^= 1
    path.write_bytes(content)


def lie(path: Path) -> None:
    """A member of 40 MB of zeros, packed into 40 kB, that claims to have 100 bytes."""
    size = 40 << 20
    with ZipFile(path, "a", ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/2.png", bytes(size))
    change(path, struct.pack("<I", size), struct.pack("<I", 100))


def directory(flags: int = 0, packing: int = 0) -> Spoil:
    """Other flags and another way of packing for each file, in the zip's directory."""
    start = b"PK\x01\x02\x14\x03\x14\x00"
    return lambda path: change(path, start + bytes(4), start + struct.pack("<HH", flags, packing))


IN_ZIPS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "text": (lambda path: path.write_text("I am a zip"), ("neither a folder nor a zip", "b'I am'")),
    "an empty file": (lambda path: path.write_bytes(b""), ("neither a folder nor a zip",)),
    "a truncated zip": (lambda path: path.write_bytes(path.read_bytes()[:-3000]), ("truncated or damaged",)),
    "half a zip": (lambda path: path.write_bytes(path.read_bytes()[:20_000]), ("truncated or damaged",)),
    "a corrupt file": (corrupt, ("'test/automobile/0.png' cannot be read", "Bad CRC-32")),
    "a file that lies": (lie, ("'train/cat/2.png' cannot be read",)),
    "a password": (directory(flags=1), ("cannot be read from the zip", "encrypted")),
    "unknown packing": (directory(packing=99), ("cannot be read from the zip", "compression")),
}


@pytest.mark.parametrize("fault", IN_ZIPS)
def test_a_bad_zip_is_refused(folder: Path, cache_root: Path, fault: str) -> None:
    spoil, parts = IN_ZIPS[fault]
    path = zipped(folder)
    spoil(path)

    message = refusal(path, cache_root)
    for part in (str(path), *parts):
        assert part in message


def test_a_broken_link_is_refused(folder: Path, cache_root: Path) -> None:
    (folder / "train" / "cat" / "2.png").symlink_to(folder / "nowhere.png")

    assert "'train/cat/2.png' is not a file" in refusal(folder, cache_root)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("cifa10", "did you mean 'cifar10'?"),
        ("CIFAR-10", "did you mean 'cifar10'?"),
        ("syntetic", "did you mean 'synthetic'?"),
        ("picture", "did you mean 'pictures'?"),
        ("./pictures.zip", "did you mean 'pictures'?"),
        ("nowhere/pictures", "can be reached"),
        ("qqq", "neither cifar10, cifar100, synthetic nor a folder or zip that can be reached"),
        ("a\0b", "neither cifar10"),
        ("~nobody-of-this-name/pictures", "neither cifar10"),
        ("x" * 5000, "neither cifar10"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest_name(
    folder: Path, cache_root: Path, source: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)

    message = refusal(source, cache_root)
    assert repr(source)[:100] in message
    assert len(message) < 500
    assert hint in message


def test_the_same_source_loads_once_it_is_mended(folder: Path, cache_root: Path) -> None:
    whole = (folder / CAT).read_bytes()
    (folder / CAT).write_bytes(whole[:-200])
    refusal(folder, cache_root)
    (folder / CAT).write_bytes(whole)

    assert len(load(str(folder)).train_labels) == 20

"""Decode one image file into square RGB bytes, or reject it in one line that names it.

PNG, JPEG and WebP, 8 bits per channel. Nothing is changed silently: 16 bits per channel, animations and transparent
pixels are rejected, and an orientation in the Exif metadata is applied, as image viewers do.
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_lab.data import validation
from cifar_lab.data.dataset import Images
from cifar_lab.data.messages import short_line, shown
from cifar_lab.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST = 1 << 20
"""Maximum bytes of an image file: 192 KiB of pixels at most, and room for an editor's metadata."""
LARGEST_PHOTO = 32 << 20
"""Maximum bytes of an image file that is resized."""

_ORIENTATION = 0x0112
_BROKEN = (  # exceptions of Pillow on invalid bytes
    *(OSError, EOFError, RuntimeError, ValueError, IndexError, KeyError, TypeError, SyntaxError, OverflowError),
    *(MemoryError, AttributeError, ZeroDivisionError),
    *(struct.error, zlib.error, lzma.LZMAError, Image.DecompressionBombError),
)


def decode_image(
    name: str, data: bytes, side: int | None = None, *, resize: bool = False, advice: str = ""
) -> Images:  # fmt: skip
    """Return the (side, side, 3) pixels of an image file; its size is read from the header before pixels are decoded.

    Args:
        name: name of the file, for errors.
        data: its bytes.
        side: expected side in pixels; None for that of the first image of a source, which may have any supported one.
        resize: fit an image of another size to `side` (see `fitted`).
        advice: end of the error for an image of another size.

    Raises:
        DataError: not an image of a known format, of another size, or not plain 8-bit pixels.
    """
    if resize and len(data) > LARGEST_PHOTO:
        raise DataError(f"{shown(name)} is larger than {LARGEST_PHOTO:,} bytes")
    if not resize and len(data) > LARGEST:
        why = f"larger than {LARGEST:,} bytes, which no image of a supported size needs"
        raise DataError(f"{shown(name)} is {why}{advice}")
    if side is not None and _is_plain_jpeg(data, side):  # same pixels as below in half the time of Image.open
        with suppress(ValueError):  # damaged: Image.open gives the reason
            return np.asarray(Image.frombytes("RGB", (side, side), data, "jpeg", "RGB", ""))
    try:
        return _decoded(name, data, side, resize=resize, advice=advice)
    except _BROKEN as error:
        reason = f"it starts with {data[:8]!r}" if isinstance(error, UnidentifiedImageError) else short_line(error)
        raise DataError(f"{shown(name)} is not a whole PNG, JPEG or WebP image: {reason}") from error


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Return an image of `side` × `side`: the centre, scaled by its shorter side (bicubic, with antialiasing)."""
    return image if image.size == (side, side) else ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)


def _decoded(name: str, data: bytes, side: int | None, *, resize: bool, advice: str) -> Images:
    image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    if side is None:
        validation.check_side(name, image.width, image.height)
    elif not resize and image.size != (side, side):
        raise DataError(f"{shown(name)} is {image.width}×{image.height}; expected {side}×{side}{advice}")
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{shown(name)} has pixels of mode {image.mode}; expected 8 bits a channel")
    if image.format == "PNG" and data[24] > 8:  # the header's bit depth, which Pillow would reduce to 8
        raise DataError(f"{shown(name)} has {data[24]} bits a channel; expected 8 bits a channel")
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{shown(name)} is an animation; expected one image")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise DataError(f"{shown(name)} has transparent pixels; put it on a background and save it without them")
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    pixels = image if image.mode == "RGB" else image.convert("RGB")
    return np.asarray(fitted(pixels, side) if resize and side is not None else pixels)


def _is_plain_jpeg(data: bytes, side: int) -> bool:
    """Tell whether `data` is a JPEG of `side` × `side`, 3 channels, 8 bits, without Exif metadata.

    The frame header is specified in ITU-T T.81, B.2.2.
    """
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1 : at + 2]
        if marker == b"\xe1":
            return False
        if marker in (b"\xc0", b"\xc1", b"\xc2"):
            return data[at + 4 : at + 10] == bytes((8, *side.to_bytes(2), *side.to_bytes(2), 3))
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False

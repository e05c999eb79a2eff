#!/usr/bin/env python3
"""Pack a zip of 60,000 JPEGs that share one header, 62 MB, into 18 MB, and unpack it again byte for byte.

    python benchmarks/on_gpu/images.py pack cifar10-jpeg.zip cifar10-jpeg.pack
    python benchmarks/on_gpu/images.py unpack cifar10-jpeg.pack cifar10-jpeg.zip    # stored, as `--data` takes it

A pack holds the names, the header once, the length of every scan, and the scans. It needs the standard library
only, so that it runs on a bare machine. Exit code 1: the file is damaged, or is not such a zip.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

END = b"\xff\xd9"
"""The marker that ends every JPEG."""
MAGIC = b"CIFARJPG2"


class NotPackable(Exception):
    """The files have no common header, or a pack is damaged."""


def pack(source: Path, target: Path) -> None:
    """Write the images of the zip `source` to `target`, their common header once."""
    with zipfile.ZipFile(source) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        names = [entry.filename for entry in entries]
        files = [archive.read(name) for name in names]
    if not files or not all(file.endswith(END) for file in files):
        raise NotPackable(f"{source}: not a zip of JPEGs only")
    header = os.path.commonprefix([min(files), max(files)])  # noqa: RUF071 (bytes, and meant byte by byte)
    scans = [file[len(header) : -len(END)] for file in files if len(file) >= len(header) + len(END)]
    if len(scans) != len(files) or max(map(len, scans)) > 0xFFFF:
        raise NotPackable(f"{source}: its images are too large or all alike")
    lengths = array("H", map(len, scans))
    if sys.byteorder == "big":
        lengths.byteswap()
    listing = zlib.compress(json.dumps({"names": names, "date": entries[0].date_time}).encode(), 9)
    body = (
        struct.pack("<III", len(listing), len(header), len(files))
        + listing
        + header
        + lengths.tobytes()
        + b"".join(scans)
    )
    target.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)


def unpack(source: Path, target: Path) -> None:
    """Write the zip of images that the pack `source` holds to `target`, uncompressed."""
    data = source.read_bytes()
    begin = len(MAGIC) + 32
    body = memoryview(data)[begin:]
    if data[: len(MAGIC)] != MAGIC or hashlib.sha256(body).digest() != data[len(MAGIC) : begin]:
        raise NotPackable(f"{source}: damaged, or not a pack of images")
    listed, size, count = struct.unpack("<III", body[:12])
    at = 12 + listed + size
    listing, header = json.loads(zlib.decompress(body[12 : 12 + listed])), bytes(body[12 + listed : at])
    lengths = array("H", bytes(body[at : at + 2 * count]))
    if sys.byteorder == "big":
        lengths.byteswap()
    at += 2 * count
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, length in zip(listing["names"], lengths, strict=True):
            archive.writestr(
                zipfile.ZipInfo(name, tuple(listing["date"])), header + bytes(body[at : at + length]) + END
            )
            at += length


def main(words: Sequence[str]) -> int:
    """Pack or unpack, as the command line says."""
    commands = {"pack": pack, "unpack": unpack}
    if len(words) != 3 or words[0] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        commands[words[0]](Path(words[1]), Path(words[2]))
    except (NotPackable, OSError, zipfile.BadZipFile) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

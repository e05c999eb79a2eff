"""Images of a common header are packed, and unpacked byte for byte."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from on_gpu import images
from PIL import Image


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A stored zip of small JPEGs, which have one header as they have one size and one quality."""
    rng = np.random.default_rng(0)
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for part, label, i in (("train", "cat", 0), ("train", "dog", 1), ("test", "cat", 0)):
            buffer = io.BytesIO()
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(buffer, "jpeg", quality=90)
            target.writestr(zipfile.ZipInfo(f"{part}/{label}/{i:04}.jpg", (2020, 1, 1, 0, 0, 0)), buffer.getvalue())
    return path


def test_a_zip_comes_back_byte_for_byte_and_was_smaller_meanwhile(archive: Path, tmp_path: Path) -> None:
    packed, again = tmp_path / "images.pack", tmp_path / "again.zip"
    assert images.main(["pack", str(archive), str(packed)]) == 0
    assert images.main(["unpack", str(packed), str(again)]) == 0
    assert again.read_bytes() == archive.read_bytes()
    assert packed.stat().st_size < archive.stat().st_size - 2 * 600


def test_a_damaged_pack_is_refused(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "images.pack"
    images.pack(archive, packed)
    packed.write_bytes(packed.read_bytes()[:-1] + b"?")
    assert images.main(["unpack", str(packed), str(tmp_path / "again.zip")]) == 1
    assert "damaged" in capsys.readouterr().err


def test_what_is_no_jpeg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("train/cat/0.txt", "a cat")
    assert images.main(["pack", str(path), str(tmp_path / "images.pack")]) == 1
    assert images.main(["pack"]) == 2

"""Small folders and zips of images, and a cache of their own for the tests that write one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that does not exist yet."""
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`pictures/train/<class>/{0,1,2}.png` and `pictures/test/<class>/{0,1}.png`: ten classes of noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for label in NAMES:
            place = tmp_path / "pictures" / split / label
            place.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.png")
    return tmp_path / "pictures"


@pytest.fixture
def zipped() -> Callable[..., Path]:
    """`zipped(folder, top="")`: a zip beside `folder` with its files, below the folder `top` in it."""

    def zipped(folder: Path, top: str = "") -> Path:
        path = folder.with_suffix(".zip")
        with ZipFile(path, "w") as archive:
            for file in folder.rglob("*"):
                archive.write(file, top + str(file.relative_to(folder)))
        return path

    return zipped

"""Find the original CIFAR-10 (Krizhevsky, 2009) on this machine, or download it from one of several mirrors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cifar_lab.data import layouts, original_images, progress, published
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.download import ExpectedFile, RemoteFile
from cifar_lab.data.messages import shown
from cifar_lab.data.published import MIRRORS_VARIABLE, DownloadMirror, Published, Say, archive_mirror, user_mirrors
from cifar_lab.errors import DataError

ROOT_VARIABLE = "CIFAR10_ROOT"

PYTHON = ExpectedFile("cifar-10-python.tar.gz", 170_498_071, "md5", "c58f30108f718f92721af3b95e74349a")
BINARY = ExpectedFile("cifar-10-binary.tar.gz", 170_052_171, "md5", "c32a1d4ab5d03f1284b67883e8d87530")
TRAIN = ExpectedFile(
    "train-00000-of-00001.parquet",
    119_705_255,
    "sha256",
    "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
)
TEST = ExpectedFile(
    "test-00000-of-00001.parquet",
    23_940_850,
    "sha256",
    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
)
HUB = "datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text"


def _hub(base: str) -> DownloadMirror:
    return DownloadMirror(files=tuple(RemoteFile(url=f"{base}/{file.name}", expected=file) for file in (TRAIN, TEST)))


MIRRORS: tuple[DownloadMirror, ...] = (
    archive_mirror("https://www.cs.toronto.edu/~kriz", PYTHON),
    _hub(f"https://huggingface.co/{HUB}"),
    archive_mirror("https://cave.cs.toronto.edu/kriz", PYTHON),
    _hub(f"https://hf-mirror.com/{HUB}"),
    archive_mirror("https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets", BINARY),
)
"""The author's page, a commit of the dataset hub's copy, and copies of both; each verified by a published checksum."""


def mirrors() -> tuple[DownloadMirror, ...]:
    """Return the mirrors of `$CIFAR_LAB_MIRRORS`, without archives of CIFAR-100, then the built-in ones."""
    return (*user_mirrors(_own), *MIRRORS)


def _own(url: str) -> DownloadMirror | None:
    """Return the mirror at an address: of an archive, of a training parquet file, or of a folder with the archive."""
    if url.endswith(".parquet"):
        if "train" not in (name := url.rpartition("/")[2]):
            raise DataError(f"{MIRRORS_VARIABLE}: {shown(name)} is no train-*.parquet; its test file is found by it")
        test = url[: -len(name)] + name.replace("train", "test")
        files = (ExpectedFile(TRAIN.name, 0, "", ""), ExpectedFile(TEST.name, 0, "", ""))  # checked by their content
        return DownloadMirror(
            files=tuple(RemoteFile(url=u, expected=e) for u, e in zip((url, test), files, strict=True))
        )
    if url.endswith((".gz", ".tgz")):
        name = url.rpartition("/")[2]
        expected = BINARY if "bin" in name else PYTHON
        return None if "cifar-100" in name else DownloadMirror(files=(RemoteFile(url=url, expected=expected),))
    return archive_mirror(url.rstrip("/"), PYTHON)


def find_or_download(folder: Path, say: Say = progress.silent) -> Dataset:
    """Return CIFAR-10 from this machine, or downloaded into `folder` (170 MB).

    Raises:
        DataError: no mirror delivers it, or `folder` cannot be written.
    """
    cifar10 = Published(name=original_images.NAME, kind="cifar10", archive=PYTHON, mirrors=mirrors())
    return published.find_or_download(cifar10, on_disk(folder), folder, say)


def on_disk(folder: Path) -> Iterator[Path]:
    """Yield the archives and folders of CIFAR-10 on this machine, in the order of the docs."""
    hub = (
        Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
        / "hub/datasets--uoft-cs--cifar10/snapshots"
    )
    roots = [*published.usual_roots(folder, ROOT_VARIABLE), *(sorted(hub.iterdir()) if hub.is_dir() else [])]
    names = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-batches-py-target", *layouts.ARCHIVES)
    for root in roots:
        if root.name in names and root.exists():
            yield root
        yield from (root / name for name in names if (root / name).exists())
        for parquet in (root, root / "plain_text"):
            if all((parquet / file.name).exists() for file in (TRAIN, TEST)):
                yield parquet

"""Find the original CIFAR-100 (Krizhevsky, 2009) on this machine, or download it from one of several mirrors.

The labels are the hundred fine ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cifar_lab.data import progress, published
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.download import ExpectedFile, RemoteFile
from cifar_lab.data.original_images import NAME_100
from cifar_lab.data.published import DownloadMirror, Published, Say, archive_mirror, user_mirrors

ROOT_VARIABLE = "CIFAR100_ROOT"
FOLDER = "cifar-100-python"
PYTHON = ExpectedFile("cifar-100-python.tar.gz", 169_001_437, "md5", "eb9058c3a382ffc7106e4002c42a8d85")
MIRRORS: tuple[DownloadMirror, ...] = (
    archive_mirror("https://www.cs.toronto.edu/~kriz", PYTHON),
    archive_mirror("https://cave.cs.toronto.edu/kriz", PYTHON),
)
"""The author's page, and the address that it redirects to."""


def mirrors() -> tuple[DownloadMirror, ...]:
    """Return the mirrors of `$CIFAR_LAB_MIRRORS` that may have CIFAR-100, then the built-in ones.

    These are the addresses of folders, and of archives with "100" in their names.
    """
    return (*user_mirrors(_own), *MIRRORS)


def _own(url: str) -> DownloadMirror | None:
    if url.endswith(".parquet"):
        return None
    if not url.endswith((".gz", ".tgz")):
        return archive_mirror(url.rstrip("/"), PYTHON)
    is_100 = "100" in url.rpartition("/")[2]
    return DownloadMirror(files=(RemoteFile(url=url, expected=PYTHON),)) if is_100 else None


def find_or_download(folder: Path, say: Say = progress.silent) -> Dataset:
    """Return CIFAR-100 from this machine, or downloaded into `folder` (169 MB).

    Raises:
        DataError: no mirror delivers it, or `folder` cannot be written.
    """
    cifar100 = Published(name=NAME_100, kind="cifar100", archive=PYTHON, mirrors=mirrors())
    return published.find_or_download(cifar100, on_disk(folder), folder, say)


def on_disk(folder: Path) -> Iterator[Path]:
    """Yield the archives and folders of CIFAR-100 on this machine, as torchvision and Keras leave them."""
    for root in published.usual_roots(folder, ROOT_VARIABLE):
        if root.name in (FOLDER, PYTHON.name) and root.exists():
            yield root
        yield from (root / name for name in (FOLDER, PYTHON.name) if (root / name).exists())

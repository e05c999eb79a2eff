"""Find the original CIFAR-10 (Krizhevsky, 2009) on this machine, or download it from one of several mirrors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.data import download, http_client, layouts, progress, sources
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.download import ExpectedFile, MirrorFailed, MirrorSlow, RemoteFile
from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError

Say = Callable[[str], None]
"""Function that shows one line to the user."""

ROOT_VARIABLE = "CIFAR10_ROOT"
MIRRORS_VARIABLE = "CIFAR_LAB_MIRRORS"

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


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Files of one mirror, which together are CIFAR-10."""

    files: tuple[RemoteFile, ...]

    @property
    def url(self) -> str:
        """Address of its first file."""
        return self.files[0].url


def _archive(base: str, expected: ExpectedFile) -> Mirror:
    return Mirror(files=(RemoteFile(url=f"{base}/{expected.name}", expected=expected),))


def _hub(base: str) -> Mirror:
    return Mirror(files=tuple(RemoteFile(url=f"{base}/{file.name}", expected=file) for file in (TRAIN, TEST)))


MIRRORS: tuple[Mirror, ...] = (
    _archive("https://www.cs.toronto.edu/~kriz", PYTHON),
    _hub(f"https://huggingface.co/{HUB}"),
    _archive("https://cave.cs.toronto.edu/kriz", PYTHON),
    _hub(f"https://hf-mirror.com/{HUB}"),
    _archive("https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets", BINARY),
)
"""The author's page, a commit of the dataset hub's copy, and copies of both; each verified by a published checksum."""


def mirrors() -> tuple[Mirror, ...]:
    """Return the mirrors of `$CIFAR_LAB_MIRRORS`, separated by commas or blanks, then the built-in ones."""
    own = [_own(url) for url in re.split(r"[,\s]+", os.environ.get(MIRRORS_VARIABLE, "")) if url]
    return (*own, *MIRRORS)


def _own(url: str) -> Mirror:
    """Return the mirror at an address: of an archive, of a training parquet file, or of a folder with the archive."""
    if url.endswith(".parquet"):
        if "train" not in (name := url.rpartition("/")[2]):
            raise DataError(f"{MIRRORS_VARIABLE}: {shown(name)} is no train-*.parquet; its test file is found by it")
        test = url[: -len(name)] + name.replace("train", "test")
        files = (ExpectedFile(TRAIN.name, 0, "", ""), ExpectedFile(TEST.name, 0, "", ""))  # checked by their content
        return Mirror(files=tuple(RemoteFile(url=u, expected=e) for u, e in zip((url, test), files, strict=True)))
    if url.endswith((".gz", ".tgz")):
        return Mirror(files=(RemoteFile(url=url, expected=BINARY if "bin" in url.rpartition("/")[2] else PYTHON),))
    return _archive(url.rstrip("/"), PYTHON)


def find_or_download(folder: Path, say: Say = progress.silent) -> Dataset:
    """Return CIFAR-10 from this machine, or downloaded into `folder` (170 MB).

    Raises:
        DataError: no mirror delivers it, or `folder` cannot be written.
    """
    for path in on_disk(folder):
        if (dataset := _tried(path, say)) is not None:
            return dataset
    return _downloaded(folder, say)


def on_disk(folder: Path) -> Iterator[Path]:
    """Yield the archives and folders of CIFAR-10 on this machine, in the order of the docs."""
    home = Path.home()
    environment = os.environ.get
    hub = Path(environment("HF_HOME") or home / ".cache/huggingface") / "hub/datasets--uoft-cs--cifar10/snapshots"
    own = environment(ROOT_VARIABLE)
    roots = [
        *([Path(own).expanduser()] if own else []),
        *(folder, Path("data"), Path()),
        *(Path(environment("TORCH_HOME") or home / ".cache/torch") / below for below in ("", "datasets", "data")),
        Path(environment("KERAS_HOME") or home / ".keras") / "datasets",
        *(sorted(hub.iterdir()) if hub.is_dir() else []),
    ]
    names = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-batches-py-target", *layouts.ARCHIVES)
    for root in roots:
        if root.name in names and root.exists():
            yield root
        yield from (root / name for name in names if (root / name).exists())
        for parquet in (root, root / "plain_text"):
            if all((parquet / file.name).exists() for file in (TRAIN, TEST)):
                yield parquet


def _tried(path: Path, say: Say) -> Dataset | None:
    """Return the original images at `path`; None, with a message, if it holds something else."""
    try:
        dataset = sources.read_source(path, say)
        if dataset.kind == "cifar10":
            return dataset
        if path.is_file() and download.checksum(path, PYTHON.algorithm) == PYTHON.digest:
            return sources.as_original(dataset)
        say(f"{shown(path.absolute())} is passed over: other images than those of CIFAR-10")
    except DataError as error:
        say(f"{error}; passed over")
    except OSError as error:
        say(f"{shown(path.absolute())} is passed over: {error.strerror or error}")
    return None


def _downloaded(folder: Path, say: Say) -> Dataset:
    """Download from each mirror in turn, then from the slow ones again, the fastest first."""
    failures: list[str] = []
    slow: list[tuple[float, Mirror]] = []
    every = mirrors()
    for mirror in every:
        another = "; trying another place" if mirror is not every[-1] else ""
        try:
            return _from_mirror(mirror, folder, say, is_patient=len(every) == 1)
        except MirrorSlow as error:
            slow.append((error.rate, mirror))
            say(f"{http_client.plain(mirror.url)} is {error}{another}")
        except MirrorFailed as error:
            failures.append(f"{http_client.plain(mirror.url)}: {error}")
            say(f"{failures[-1]}{another}")
    for _, mirror in sorted(slow, key=lambda pair: -pair[0]):
        try:
            say(f"no place is faster; going on from {http_client.plain(mirror.url)}")
            return _from_mirror(mirror, folder, say, is_patient=True)
        except MirrorFailed as error:
            failures.append(f"{http_client.plain(mirror.url)}: {error}")
    others = len(failures) - 1
    more = f" (and {others} other place{'s' * (others > 1)}, see above)" * (others > 0)
    raise DataError(
        f"CIFAR-10 could not be fetched from {failures[0]}{more}; without network put {PYTHON.name} into "
        f"{shown(folder)} or give --data PATH ({sources.ACCEPTED}) or --data synthetic"
    )


def _from_mirror(mirror: Mirror, folder: Path, say: Say, *, is_patient: bool) -> Dataset:
    """Return the images that one mirror serves.

    Raises:
        Slow, Failed: see `download.download`; Failed too if the images are not those of CIFAR-10.
    """
    paths = [download.download(remote, folder, say, is_patient=is_patient) for remote in mirror.files]
    try:
        dataset = sources.read_source(
            paths[0] if len(paths) == 1 else folder, say
        )  # two parquet files are in the folder
    except DataError as error:
        _forget(paths)
        raise MirrorFailed(str(error)) from error
    if dataset.kind == "cifar10":
        return dataset
    if mirror.files[0].expected is PYTHON:  # its md5 was correct, and its order is the reference
        return sources.as_original(dataset)
    _forget(paths)
    raise MirrorFailed("other images than those of CIFAR-10")


def _forget(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)

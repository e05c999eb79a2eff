"""Find a published data set on this machine, or download it from one of several mirrors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cifar_lab.data import download, http_client, sources
from cifar_lab.data.dataset import Dataset, Kind
from cifar_lab.data.download import ExpectedFile, MirrorFailed, MirrorSlow, RemoteFile
from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError

MIRRORS_VARIABLE = "CIFAR_LAB_MIRRORS"
"""Addresses of the user's own mirrors, separated by commas or blanks."""
Say = Callable[[str], None]
"""Function that shows one line to the user."""


@dataclass(frozen=True, kw_only=True)
class DownloadMirror:
    """Files of one mirror, which together are the data set."""

    files: tuple[RemoteFile, ...]

    @property
    def url(self) -> str:
        """Address of its first file."""
        return self.files[0].url


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published data set: the checksum of its archive, and where it can be."""

    name: str
    """Name in tables and messages: `CIFAR-10`."""
    kind: Kind
    archive: ExpectedFile
    mirrors: tuple[DownloadMirror, ...]


def archive_mirror(base: str, expected: ExpectedFile) -> DownloadMirror:
    """Return the mirror whose only file is the archive in the folder at the address `base`."""
    return DownloadMirror(files=(RemoteFile(url=f"{base}/{expected.name}", expected=expected),))


def user_mirrors(mirror_at: Callable[[str], DownloadMirror | None]) -> list[DownloadMirror]:
    """Return the mirrors at the addresses of `$CIFAR_LAB_MIRRORS`; `mirror_at` returns None for another data set's."""
    urls = [url for url in re.split(r"[,\s]+", os.environ.get(MIRRORS_VARIABLE, "")) if url]
    return [mirror for mirror in map(mirror_at, urls) if mirror is not None]


def find_or_download(published: Published, places: Iterable[Path], folder: Path, say: Say) -> Dataset:
    """Return the data set from one of `places` on this machine, or downloaded into `folder`.

    Raises:
        DataError: no mirror delivers it, or `folder` cannot be written.
    """
    for path in places:
        if (dataset := _tried(published, path, say)) is not None:
            return dataset
    return _downloaded(published, folder, say)


def usual_roots(folder: Path, variable: str) -> list[Path]:
    """Return the folders that may hold a data set: `$variable`, `folder`, ./data, . and those of PyTorch and Keras."""
    environment, home = os.environ.get, Path.home()
    own = environment(variable)
    return [
        *([Path(own).expanduser()] if own else []),
        *(folder, Path("data"), Path()),
        *(Path(environment("TORCH_HOME") or home / ".cache/torch") / below for below in ("", "datasets", "data")),
        Path(environment("KERAS_HOME") or home / ".keras") / "datasets",
    ]


def _tried(published: Published, path: Path, say: Say) -> Dataset | None:
    """Return the original images at `path`; None, with a message, if it holds something else."""
    try:
        dataset = sources.read_source(path, say)
        if dataset.kind == published.kind:
            return dataset
        if path.is_file() and download.checksum(path, published.archive.algorithm) == published.archive.digest:
            return _as_original(published, dataset)
        say(f"{shown(path.absolute())} is passed over: other images than those of {published.name}")
    except DataError as error:
        say(f"{error}; passed over")
    except OSError as error:
        say(f"{shown(path.absolute())} is passed over: {error.strerror or error}")
    return None


def _downloaded(published: Published, folder: Path, say: Say) -> Dataset:
    """Download from each mirror in turn, then from the slow ones again, the fastest first."""
    failures: list[str] = []
    slow: list[tuple[float, DownloadMirror]] = []
    every = published.mirrors
    for mirror in every:
        another = "; trying another place" if mirror is not every[-1] else ""
        try:
            return _from_mirror(published, mirror, folder, say, is_patient=len(every) == 1)
        except MirrorSlow as error:
            slow.append((error.rate, mirror))
            say(f"{http_client.without_secrets(mirror.url)} is {error}{another}")
        except MirrorFailed as error:
            failures.append(f"{http_client.without_secrets(mirror.url)}: {error}")
            say(f"{failures[-1]}{another}")
    for _, mirror in sorted(slow, key=lambda pair: -pair[0]):
        try:
            say(f"no place is faster; going on from {http_client.without_secrets(mirror.url)}")
            return _from_mirror(published, mirror, folder, say, is_patient=True)
        except MirrorFailed as error:
            failures.append(f"{http_client.without_secrets(mirror.url)}: {error}")
    others = len(failures) - 1
    more = f" (and {others} other place{'s' * (others > 1)}, see above)" * (others > 0)
    raise DataError(
        f"{published.name} could not be fetched from {failures[0]}{more}; without network put "
        f"{published.archive.name} into {shown(folder)} or give --data PATH ({sources.ACCEPTED}) or --data synthetic "
        "(in Python data=…)"
    )


def _from_mirror(published: Published, mirror: DownloadMirror, folder: Path, say: Say, *, is_patient: bool) -> Dataset:
    """Return the images that one mirror serves.

    Raises:
        MirrorSlow: as `download.download` raises it.
        MirrorFailed: as `download.download` raises it, and if the images are others.
    """
    paths = [download.download(remote, folder, say, is_patient=is_patient) for remote in mirror.files]
    try:
        dataset = sources.read_source(
            paths[0] if len(paths) == 1 else folder, say
        )  # two parquet files are in the folder
    except DataError as error:
        _forget(paths)
        raise MirrorFailed(str(error)) from error
    if dataset.kind == published.kind:
        return dataset
    if mirror.files[0].expected is published.archive:  # its md5 was correct, and its order is the reference
        return _as_original(published, dataset)
    _forget(paths)
    raise MirrorFailed(f"other images than those of {published.name}")


def _as_original(published: Published, dataset: Dataset) -> Dataset:
    """Return `dataset` under the published name, for files whose own checksum shows that they are the original."""
    return replace(dataset, name=published.name, kind=published.kind)


def _forget(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)

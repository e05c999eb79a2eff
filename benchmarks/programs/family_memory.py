"""Memory of a family of processes, from Linux's accounting.

`smaps_rollup` gives the proportional share (PSS) of each process: a page that n processes share counts 1/n in each, so
the sum over the family is its memory. `smaps` gives the same for the images' files alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

IMAGES = ("train_images.npy", "test_images.npy")
GONE = (OSError, psutil.Error)
"""Exceptions raised for a process that has ended meanwhile."""


@dataclass(frozen=True)
class Look:
    """Memory of a family at one time, in bytes."""

    whole: int
    """Total PSS of all processes."""
    private: int
    """Largest private dirty memory of a process with images in memory, where copies would appear. Pages of a shared
    file that only one process has read are clean."""
    images: int
    """PSS of the images in all processes."""
    images_resident: int
    """Resident size of the images, summed over processes."""
    holders: int
    """Number of processes that have images in memory."""


def look(family: list[psutil.Process]) -> Look:
    """Measure the family now; processes that end meanwhile are left out."""
    whole, private, images, resident = 0, 0, 0, []
    for process in family:
        with suppress(*GONE):
            every = _fields(Path(f"/proc/{process.pid}/smaps_rollup"))
            whole += every["Pss"]
            mine = list(_mappings(Path(f"/proc/{process.pid}/smaps")))
            images += sum(mapping["Pss"] for mapping in mine)
            resident.append(sum(mapping["Rss"] for mapping in mine))
            if resident[-1]:
                private = max(private, every["Private_Dirty"])
    return Look(whole, private, images, sum(resident), sum(size > 0 for size in resident))


def _fields(path: Path) -> dict[str, int]:
    """Parse lines such as `Pss:  12 kB`, in bytes."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1] == "kB"}


def _mappings(path: Path) -> Iterator[dict[str, int]]:
    """Yield the fields of each mapping of an images' file."""
    wanted: dict[str, int] | None = None
    for line in path.read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):  # the address that begins a mapping
            if wanted:
                yield wanted
            wanted = {} if words[-1].endswith(IMAGES) else None
        elif wanted is not None and words[-1] == "kB":
            wanted[words[0].rstrip(":")] = 1024 * int(words[1])
    if wanted:
        yield wanted


def told(looks: list[Look]) -> dict[str, float]:
    """Summarize the samples; for the private memory, the maximum, and the median of samples with most processes.

    A permanent copy is part of every sample, and so of their median; temporary memory of an evaluation, or
    fragmentation of a heap, is part of only a few.
    """
    most = max(looks, key=lambda each: (each.holders, each.images_resident))
    working = [each.private for each in looks if each.holders == most.holders]
    return {
        "whole": max(each.whole for each in looks),
        "private": statistics.median(working),
        "private_most": max(each.private for each in looks),
        "images": most.images,
        "images_resident": most.images_resident,
        "holders": most.holders,
    }

"""The memory of a family of processes, from Linux's own books.

`smaps_rollup` of each process says its proportional share (PSS): a page that n processes share counts 1/n in each, so
the sum over the family is what it takes. `smaps` says the same of the images' files alone.
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
"""What looking at a process raises that has ended meanwhile."""


@dataclass(frozen=True)
class Look:
    """A family at one time; bytes."""

    whole: int
    """PSS of all processes."""
    private: int
    """The most that one of those with images in memory has for itself alone and has written to, as copies are. What it
    alone has read of a file that all share is clean."""
    images: int
    """PSS of the images in all processes."""
    images_resident: int
    """The same, counted in full in each process."""
    holders: int
    """Processes that have images in memory."""


def look(family: list[psutil.Process]) -> Look:
    """The family as it is now; processes that end meanwhile are left out."""
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
    """`Pss:  12 kB` and so on, in bytes."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1] == "kB"}


def _mappings(path: Path) -> Iterator[dict[str, int]]:
    """The fields of each mapping of a file of images."""
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

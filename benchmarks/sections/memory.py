"""Memory of a cell, its growth over time, and sharing of images among workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from side_by_side.asked import Asked
from side_by_side.contender import Contender, Results, command, last_line, program
from side_by_side.goal import Goal
from side_by_side.pictures import Pictures
from side_by_side.section import Row, Section, Table
from side_by_side.spread import Absent, Found, by_round
from side_by_side.turns import take_turns

from cifar_lab.store.journal import read_points

NAME = "memory"
ROUNDS = 1
PEAK, ONCE, COPY, GROWTH = 1.5, 1.05, 0.5, 1.02
MANY, FEW = 40_000, 2_800
"""Training images that two workers share, for synthetic data; and those of the single cell."""
TWO, PART, CELL, PLAIN = "two workers", "two workers, a quarter of the images", "one cell", "plain loop"
PARTS = 4
"""Number of parts; small enough that the smaller run also fills its evaluation batches, which need most memory."""
TOLD = """GB (10⁹ bytes) from Linux's own books, looked at twice a second: proportional shares (PSS, of
`smaps_rollup`), in which what n processes share counts once, over the whole family of processes. Two workers train
two cells of width 16 at the same time; should one have copied the images, its private memory would grow by a byte for
each byte of them, against the same run on a quarter of the images. While they train is the median of the looks at which
both had images, of the worker that has more at each: a copy that stays is in it. The highest of the looks has what an
evaluation takes besides, and a heap with holes, which differ from run to run by more than a copy of the images would.
One cell: of width 16, its peak as its own journal has it epoch by epoch (resident, with all of torch). Its whole
family has the runner and the server of the workers besides, which are there once, however many cells are trained."""


def measure(asked: Asked, rounds: int) -> Section:
    count = asked.size(MANY, 600)
    whole = asked.data != "synthetic" and not asked.is_quick
    many = Pictures.all_of(asked.data) if whole else Pictures.some_of(asked.data, count, asked.scratch / "images")
    fewer = Pictures.some_of(asked.data, many.train // PARTS, asked.scratch / "images")
    few = Pictures.some_of(asked.data, asked.size(FEW, 300), asked.scratch / "images")
    epochs = asked.size(10, 3)
    found = take_turns(
        [_two(asked, TWO, many), _two(asked, PART, fewer), *_alone(asked, few, epochs)], rounds, asked.say
    )
    images = many.bytes / 1e9
    shared, counted = (_gb(found.of(TWO, number)) for number in ("images", "images_resident"))
    grown = by_round(lambda all_, part: (all_ - part) / (images - fewer.bytes / 1e9),
                     *(_gb(found.of(name, "private")) for name in (TWO, PART)))  # fmt: skip
    holders = [found.of(name, "holders") for name in (TWO, PART)]
    rows = {
        "two workers, the whole family": _gb(found.of(TWO, "whole")),
        "images, counted in full in every process": counted,
        "images, as they are shared": shared,
        "a worker's private memory, while they train": _gb(found.of(TWO, "private")),
        "the same on a quarter of the images": _gb(found.of(PART, "private")),
        "a worker's private memory, the highest": _gb(found.of(TWO, "private_most")),
        "the highest on a quarter of the images": _gb(found.of(PART, "private_most")),
        "one cell, the whole family": _gb(found.of(CELL, "whole")),
        "one cell, its worker's peak": _gb(found.of(CELL, "peak")),
        "plain loop, the whole family": _gb(found.of(PLAIN, "whole")),
    }
    return Section(
        name=NAME,
        title="Memory",
        told=f"{TOLD} The pixels that are shared are {images:.4f} GB, and {few.train:,} images are the one cell's.",
        tables=(
            Table(title="memory", unit="GB", rows=tuple(Row(name=k, measured=v) for k, v in rows.items())),
        ),
        goals=(
            Goal(what="images in memory, over their size", at="most", limit=ONCE, unit="×",
                 measured=where_two_hold(holders, by_round(lambda held: held / images, shared))),
            Goal(what="private bytes of a worker for a byte of images", at="most", limit=COPY, unit="bytes",
                 measured=where_two_hold(holders, grown)),
            Goal(what="peak of a cell of width 16", at="most", limit=PEAK, unit="GB",
                 measured=_gb(found.of(CELL, "peak"))),
            Goal(what=f"its peak after {epochs} epochs, over that after the second", at="most", limit=GROWTH, unit="×",
                 measured=found.of(CELL, "growth")),
        ),
        is_timed=False,
        notes=(f"processes that had the images in memory at once: {found.of(TWO, 'holders')}",),
    )  # fmt: skip


def where_two_hold(holders: Sequence[Found], measured: Found) -> Found:
    """Return `measured`, if both workers had the images' file in memory in every round.

    A worker that has copied the images and closed the file does not appear in these numbers.
    """
    for each in holders:
        if isinstance(each, Absent):
            return each
        if set(each.values) != {2.0}:
            return Absent(f"it takes two processes that have the images' file in memory; there were {each}")
    return measured


def _gb(found: Found) -> Found:
    return by_round(lambda size: size / 1e9, found)


def _two(asked: Asked, name: str, pictures: Pictures) -> Contender:
    line = command("run-ablation", "se_ratio", "--variants", "r16,none", "--seeds", 0, "--scale", "small",
                   "train.epochs=1", "--workers", 2, "--device", "cpu", "--data", pictures.source, "--offline",
                   "-y")  # fmt: skip
    return Contender(name=name, line=program("watched_run", "--", *line), folder=asked.scratch / "two",
                     environment=pictures.environment)  # fmt: skip


def _alone(asked: Asked, pictures: Pictures, epochs: int) -> tuple[Contender, Contender]:
    cell = command("train", "--scale", "small", f"train.epochs={epochs}", "--device", "cpu", "--data",
                   pictures.source, "--offline", "-y")  # fmt: skip
    plain = program("plain_loop", "--epochs", 1, "--data", pictures.source)
    return (
        Contender(name=CELL, line=program("watched_run", "--", *cell), folder=asked.scratch / "one", read=peaks,
                  environment=pictures.environment),
        Contender(name=PLAIN, line=program("watched_run", "--", *plain), folder=asked.scratch / "plain",
                  environment=pictures.environment),
    )  # fmt: skip


def peaks(printed: str, folder: Path) -> Results:
    """Return the printed numbers, and the peak memory of the one cell in `runs` from its journal, in bytes."""
    (path,) = (folder / "runs").glob("*/journal.jsonl")
    found = [point.values["memory/peak_mib"] * 2**20 for point in read_points(path.parent)]
    return {**last_line(printed, folder), "peak": found[-1], "growth": found[-1] / found[1]}

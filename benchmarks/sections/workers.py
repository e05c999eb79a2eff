"""Throughput of many small cells on one machine, and start-up time of a worker."""

from __future__ import annotations

from pathlib import Path

from side_by_side.asked import Asked
from side_by_side.contender import Contender, Results, command, program
from side_by_side.goal import Goal
from side_by_side.pictures import Pictures
from side_by_side.section import Row, Section, Table
from side_by_side.spread import ratio
from side_by_side.turns import take_turns

from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index

NAME = "workers"
ROUNDS = 1
TIMES, START_SECONDS = 1.1, 1.0
FEW = 2_800
"""Training images of a small cell, if the data have more: as many as the synthetic ones."""
ONE, AUTO, START = "--workers 1, all threads", "--workers auto", "a worker's start"
STARTS = {
    "the process alone: start, lock, end": "process",
    "until the first step, images loaded and network built": "first_step",
    "the process alone, the first of all, which waits for torch": "first",
}
TOLD = """Cells an hour of `run-ablation se_ratio --scale smoke`, whose cells take seconds: from the note of the
invocation to the last result, so without the imports of the command and its estimate, and with the start of every
worker. A worker's start is from the engine's taking a cell on."""


def measure(asked: Asked, rounds: int) -> Section:
    pictures = _pictures(asked)
    contenders = [_run(asked, pictures, ONE, "1"), _run(asked, pictures, AUTO, "auto"), _starts(asked, pictures)]
    found = take_turns(contenders, rounds, asked.say)
    hourly = {name: found.of(name, "cells_an_hour") for name in (ONE, AUTO)}
    starts = {words: found.of(START, number) for words, number in STARTS.items()}
    goals = [Goal(what="--workers auto over one process with all threads", at="least", limit=TIMES, unit="×",
                  measured=ratio(hourly[AUTO], hourly[ONE]))]  # fmt: skip
    goals += [
        Goal(what=f"a worker's start, {words}", at="most", limit=START_SECONDS, unit="s", measured=starts[words])
        for words in list(STARTS)[:2]
    ]
    return Section(
        name=NAME,
        title="Many small cells",
        told=TOLD,
        tables=(
            Table(title="cells an hour", unit="cells/h", against=ONE,
                  rows=tuple(Row(name=name, measured=value) for name, value in hourly.items())),
            Table(title=START, unit="s", rows=tuple(Row(name=words, measured=one) for words, one in starts.items())),
        ),
        goals=tuple(goals),
    )  # fmt: skip


def _pictures(asked: Asked) -> Pictures:
    if asked.data == "synthetic" and not asked.is_quick:
        return Pictures.all_of(asked.data)
    return Pictures.some_of(asked.data, asked.size(FEW, 300), asked.scratch / "images")


def _run(asked: Asked, pictures: Pictures, name: str, workers: str) -> Contender:
    study = asked.size(("--seeds", "0-1"), ("--seeds", "0", "--variants", "r16,none", "train.epochs=1"))
    line = command("run-ablation", "se_ratio", "--scale", "smoke", *study, "--data", pictures.source,
                   "--device", "cpu", "--workers", workers, "-y")  # fmt: skip
    return Contender(name=name, line=line, folder=asked.scratch / f"workers-{workers}", read=cells_an_hour,
                     environment=pictures.environment)  # fmt: skip


def _starts(asked: Asked, pictures: Pictures) -> Contender:
    line = program("worker_start", "--data", pictures.source, "--workers", asked.size(5, 1))
    return Contender(name=START, line=line, folder=asked.scratch / "start", environment=pictures.environment)


def cells_an_hour(printed: str, folder: Path) -> Results:  # noqa: ARG001 (a Read)
    """Return the rate of the one invocation in `runs`, all of whose cells must be finished."""
    runs = folder / "runs"
    (invocation,) = read_index(runs).invocations
    results = [CellRecord(runs / cell.fingerprint).result() for cell in invocation.cells]
    ends = [result.time for result in results if result is not None]
    if len(ends) < len(results):
        raise ValueError(f"{len(results) - len(ends)} cells came to no end")
    return {"cells_an_hour": len(ends) / (max(ends) - invocation.time) * 3_600_000}

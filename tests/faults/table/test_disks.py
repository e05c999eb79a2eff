"""Disks that are full, read-only or limited: a clear failure, and nothing that was whole is lost."""

from __future__ import annotations

import resource
import signal
import time
from pathlib import Path

import pytest
from faults.table import cells, mounts, undisturbed
from faults.table.lab import Done, Lab, Material, differences, wait_until
from faults.table.tally import Tally

from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.train import checkpoint

NO_ROOM = ("no space", "disk is full", "full disk", "out of space", "file too large", "quota")


def _names(text: str) -> bool:
    """Tell whether a text says that there was no room."""
    return any(words in text.lower() for words in NO_ROOM)


def _train_without_room(job: CellJob) -> list[str]:
    """Train a cell that is bound to run out of room; return what is wrong with how it says so."""
    kept = job.record.checkpoint.read_bytes() if job.record.checkpoint.exists() else None
    problems = []
    try:
        train_cell(job)
    except Exception as error:  # noqa: BLE001 (its kind and text are what is judged)
        if not _names(str(error)):
            problems.append(f"the reason is not said: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
    if kept is not None and job.record.result() is None:
        problems += _damaged(job, "the earlier checkpoint is lost")
    return problems


def _damaged(job: CellJob, what: str) -> list[str]:
    try:
        return [what] if checkpoint.load_checkpoint(job.record.checkpoint) is None else []
    except Exception as error:  # noqa: BLE001 (counted)
        return [f"{what}: {error}"]


def test_disk_full_cell(tally: Tally, material: Material, mounted: Path, tmp_path: Path) -> None:
    (job, *_) = cells.jobs(material, tmp_path / "runs")
    expected = cells.reference(job, tmp_path / "reference")
    stopped = 0
    for number in range(tally.tries):
        place = mounts.mount(mounted / str(number), 64 * mounts.PAGE + 2**20)
        own = cells.moved(job, place / "runs")
        if tally.chance.random() < 0.7:
            cells.train_until(own, tally.chance.randint(1, 6))
        else:
            own.runs.mkdir()
        pages = tally.chance.randint(0, 30)
        mounts.fill(place, pages)
        problems = _train_without_room(own)
        stopped += own.record.result() is None
        mounts.empty(place)
        problems += cells.trained_on(own, expected)
        tally.add(problems, f"{pages} pages left")
        mounts.unmount_below(mounted)
    tally.notes["cells that ran out of room"] = str(stopped)
    tally.settle()


@pytest.mark.slow
def test_disk_full_study(tally: Tally, material: Material, mounted: Path, tmp_path: Path) -> None:
    words = "train.epochs=40"
    expected = undisturbed.study(material, words)
    for number in range(tally.tries):
        place = mounts.mount(mounted / str(number), 2**21)
        lab = Lab(folder=tmp_path / f"study{number}", material=material)
        lab.runs = place / "runs"
        line = lab.line("--offline", words)
        when = "before the start" if number % 3 == 0 else "in the middle"
        if number % 3 == 0:
            mounts.fill(place, 0)
            done = lab.run(*line)
        else:
            process = lab.start(line)
            wait_until(lambda: lab.epochs() > 0 or process.poll() is not None, "an epoch")  # noqa: B023
            time.sleep(tally.chance.uniform(0, 1))
            mounts.fill(place, tally.chance.randint(0, 3))
            done = lab.done(process)
        problems = _said_no_room(done, is_over=not differences(lab.records(), expected))
        mounts.empty(place)
        problems += lab.run(*lab.line("--offline", "--retry-failed", words)).problems(0)
        tally.add(problems + differences(lab.records(), expected), when)
        mounts.unmount_below(mounted)
    tally.settle()


def _said_no_room(done: Done, *, is_over: bool) -> list[str]:
    """Return what is wrong with the end of a study on a full disk; `is_over`: the disk was full too late for it."""
    if is_over:
        return done.problems(0)
    return done.problems(1, 2) + ([] if _names(done.err) else [f"the reason is not said: {done.err[-300:]}"])


READS = (
    "compare tiny", "status tiny", "failures tiny", "list", "describe tiny", "plan tiny", "verify", "clean --dry-run",
    "report tiny -o {out}/report.html",
)  # fmt: skip
WRITES = ("run-ablation tiny --seeds 7 --offline -y", "train --offline -y model.width=8")


@pytest.mark.slow
def test_disk_read_only(tally: Tally, material: Material, mounted: Path, tmp_path: Path) -> None:
    place = mounts.mount(mounted / "store", 2**24)
    lab = Lab(folder=tmp_path / "study", material=material)
    lab.runs = place / "runs"
    process = lab.start(lab.line("train.epochs=400", "--offline"))
    wait_until(lambda: lab.epochs() > 2, "two epochs")
    process.send_signal(signal.SIGINT)  # leaves unfinished cells, whose locks are looked at by whoever reads
    lab.done(process)
    finished = lab.run(*lab.line("--offline"))
    assert finished.code == 0, finished.err
    mounts.read_only(place)
    data = ["--data", str(material.images), "--ablations", str(material.ablations)]
    for line, codes in [(line, (0, 1)) for line in READS] + [(line, (2,)) for line in WRITES]:
        words = line.format(out=tmp_path).split()
        takes = {"list": data[2:], "describe": data[2:], "clean": [], "failures": data[2:], "train": data[:2]}
        more = takes.get(words[0], data[2:] if words[0] not in {"plan", "run-ablation"} else data)
        runs = [] if words[0] in {"list", "describe"} else ["--runs", str(lab.runs)]
        done = lab.run(*words, *more, *runs)
        tally.add(done.problems(*codes), line)
    tally.notes["tried"] = "commands"
    tally.settle()


def test_disk_quota(tally: Tally, material: Material, tmp_path: Path) -> None:
    (job, *_) = cells.jobs(material, tmp_path / "runs")
    expected = cells.reference(job, tmp_path / "reference")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for number in range(tally.tries):
        own = cells.moved(job, tmp_path / str(number))
        limit = tally.chance.randint(3000, 20_000)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            problems = _train_without_room(own)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if own.record.result() is not None:
            problems.append("the limit was never reached")
        tally.add(problems + cells.trained_on(own, expected), f"{limit} bytes")
    tally.settle()

"""Terminals that are closed, readers that leave, and output that cannot be written."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from typing import Any

import pytest
from faults.table import undisturbed
from faults.table.lab import (
    ENDS_WITHIN,
    PATIENCE,
    Done,
    Lab,
    Material,
    differences,
    kill_group,
    last_line,
    left,
    wait_until,
)
from faults.table.tally import Tally

from cifar_lab.store.journal import read_events

pytestmark = pytest.mark.slow
EPOCHS = "train.epochs=150"
"""A study that takes some seconds, so that a signal meets it in its middle."""
SHORT = "train.epochs=40"


def _goes_on(lab: Lab, material: Material, words: str) -> list[str]:
    """Run the study again to its end; return what is wrong with it."""
    done = lab.run(*lab.line("--offline", words))
    return done.problems(0) + differences(lab.records(), undisturbed.study(material, words))


def _started(lab: Lab, words: str, **how: Any) -> subprocess.Popen[str]:
    """Start a study, and wait until cells train."""
    process = lab.start(lab.line("--offline", words), **how)
    wait_until(lambda: lab.epochs() > 3 or process.poll() is not None, "four epochs")
    return process


def _trained_twice(lab: Lab) -> list[str]:
    """Return one line for each cell that went on from an earlier epoch than it had written down."""
    problems = []
    for record in lab.records():
        last = 0
        for event in read_events(record.folder):
            if event.kind == "resume" and event.epoch < last:
                problems.append(f"{record.fingerprint[:12]} went back from epoch {last} to {event.epoch}")
            if event.kind in {"points", "resume"}:
                last = event.epoch
    return problems


def _own_terminal(terminal: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, too
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_terminal_closed(tally: Tally, lab: Lab, material: Material) -> None:
    for number in range(tally.tries):
        each = Lab(folder=lab.folder / str(number), material=material)
        ours, theirs = os.openpty()
        how = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "preexec_fn": lambda: _own_terminal(theirs)}  # noqa: B023
        process = subprocess.Popen(
            [sys.executable, "-m", "cifar_lab", *each.line("--offline", EPOCHS)], cwd=each.folder,
            env=material.environment(), **how,
        )  # fmt: skip
        os.close(theirs)
        try:
            _read_until(ours, each, process)
            time.sleep(tally.chance.uniform(0, 1))
            os.close(ours)  # the kernel sends SIGHUP to the foreground group
            try:
                process.wait(ENDS_WITHIN)
                problems = []
            except subprocess.TimeoutExpired:
                problems = ["it did not end"]
            problems += left(process)
        finally:
            kill_group(process)
        tally.add(problems + _goes_on(each, material, EPOCHS) + _trained_twice(each), f"study {number + 1}")
    tally.settle()


def _read_until(terminal: int, lab: Lab, process: subprocess.Popen[bytes]) -> None:
    """Read what is shown until cells train: a terminal that is not read holds its writers up."""
    os.set_blocking(terminal, False)
    end = time.monotonic() + PATIENCE
    while lab.epochs() < 4 and process.poll() is None and time.monotonic() < end:
        try:
            os.read(terminal, 65_536)
        except BlockingIOError:
            time.sleep(0.02)


def test_ctrl_c_twice(tally: Tally, lab: Lab, material: Material) -> None:
    for number in range(tally.tries):
        each = Lab(folder=lab.folder / str(number), material=material)
        process = _started(each, EPOCHS)
        time.sleep(tally.chance.uniform(0, 2))
        for pause in (tally.chance.uniform(0, 1), 0):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(pause)
        done = each.done(process, patience=ENDS_WITHIN)
        problems = done.problems(130, 0, -signal.SIGINT) + left(process)
        tally.add(problems + _goes_on(each, material, EPOCHS), f"study {number + 1}")
    tally.settle()


def test_stderr_closed(tally: Tally, lab: Lab, material: Material) -> None:
    """The reader of standard error leaves in the middle of a study, as `2>&1 | head` does."""
    for number in range(tally.tries):
        each = Lab(folder=lab.folder / str(number), material=material)
        ours, theirs = os.pipe()
        process = each.start(each.line("--offline", SHORT), stderr=theirs)
        os.close(theirs)
        os.read(ours, 1)
        wait_until(lambda: each.epochs() > 1 or process.poll() is not None, "two epochs")  # noqa: B023
        os.close(ours)
        done = each.done(process)
        problems = [] if done.code == 0 else [f"the study ended with exit code {done.code}"]
        tally.add(problems + _goes_on(each, material, SHORT) + _trained_twice(each), f"study {number + 1}")
    tally.settle()


LINES = (
    "list", "describe tiny", "status tiny", "compare tiny", "plan tiny", "failures tiny", "verify", "--help", "doctor",
    "compare tiny --json", "list --json", "clean --dry-run",
)  # fmt: skip


@pytest.fixture
def finished(lab: Lab) -> Lab:
    """A folder with a finished study."""
    done = lab.run(*lab.line("--offline"))
    assert done.code == 0, done.err
    return lab


def _full(line: str, lab: Lab) -> list[str]:
    """Return the words of a command with the places that it takes."""
    words = line.split()
    own, data = ["--ablations", str(lab.material.ablations)], ["--data", str(lab.material.images)]
    takes = {"plan": own + data, "list": own, "describe": own, "status": own, "compare": own, "failures": own}
    return words + takes.get(words[0], [])


def test_output_full(tally: Tally, finished: Lab) -> None:
    for line in LINES[: tally.tries]:
        with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
            done = finished.run(*_full(line, finished), stdout=full)
        problems = done.problems(*range(1, 256))
        if len(done.err.strip().splitlines()) > 1:
            problems.append(f"more than one line on standard error: {last_line(done.err)}")
        tally.add(problems, line)
    tally.settle()


def test_reader_gone(tally: Tally, finished: Lab) -> None:
    for line in LINES[: tally.tries]:
        ours, theirs = os.pipe()
        process = finished.start(_full(line, finished), stdout=theirs)
        os.close(theirs)
        os.read(ours, 1)
        os.close(ours)
        done = finished.done(process)
        tally.add(_quiet(done), line)
    tally.settle()


def _quiet(done: Done) -> list[str]:
    """Return what is wrong with a command whose reader left: it may end in any way, but without an error on screen."""
    noisy = "Traceback" in done.err or "BrokenPipe" in done.err or "Exception ignored" in done.err
    return [last_line(done.err)] if noisy else []

"""One cell that fails for a reason of its own: the others go on, and its record says why."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from faults.table import undisturbed
from faults.table.lab import Lab, Material, differences, kill_group, left, wait_until, workers, write_study
from faults.table.tally import Tally

from cifar_lab.store.cell_record import CellRecord

pytestmark = pytest.mark.slow
ROOM = 8 * 2**30
"""Bytes of addresses that a process may have: one with torch takes more than 5 GiB before it trains."""
WIDE = 16_384
"""Width of a network whose weights alone take more than that."""
STALLED = {"CIFAR_LAB_STALL_AFTER": "20"}
"""Shortened time without progress, as the watchdog would wait for minutes."""
WATCHDOG_PATIENCE = 120.0


def _limit_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))


def _failed_alone(lab: Lab, expected: dict[str, dict[str, Any]], reasons: Iterable[str]) -> list[str]:
    """Return what is wrong, unless one cell failed with one of `reasons` and the others are as expected."""
    failed = [record for record in lab.records() if record.result() is None]
    others = [record for record in lab.records() if record.result() is not None]
    failures = [(record, record.failure()) for record in failed]
    named = [f"no failure, it is {record.state()}" if each is None else each.error for record, each in failures]
    wanted = {fingerprint: value for fingerprint, value in expected.items() if fingerprint not in _names(failed)}
    problems = differences(others, wanted)
    if len(failed) != 1:
        problems.append(f"{len(failed)} cells failed: {'; '.join(named)}")
    elif not any(reason in named[0].lower() for reason in reasons):
        problems.append(f"the reason is not said: {named[0]}")
    return problems


def _names(records: Iterable[CellRecord]) -> set[str]:
    return {record.fingerprint for record in records}


def test_out_of_memory(tally: Tally, lab: Lab, material: Material) -> None:
    write_study(material.ablations / "wide.py", wide=WIDE, seeds=1)
    expected = undisturbed.study(material, "--seeds", "0")
    for number in range(tally.tries):
        each = Lab(folder=lab.folder / str(number), material=material, study="wide")
        line = each.line("--seeds", "0", "--offline", "--max-params", "100000M")
        done = each.run(*line, preexec_fn=_limit_addresses)
        tally.add(done.problems(1) + _failed_alone(each, expected, ["memory"]), f"study {number + 1}")
    tally.settle()


EPOCHS = "train.epochs=40"


def _started(lab: Lab, material: Material, number: int) -> tuple[Lab, subprocess.Popen[str]]:
    """Return a study of its own folder that has trained two epochs, and its process."""
    each = Lab(folder=lab.folder / str(number), material=material, variables=STALLED)
    process = each.start(each.line("--offline", EPOCHS))
    wait_until(lambda: each.epochs() > 2 or process.poll() is not None, "two epochs")
    return each, process


def test_worker_hangs(tally: Tally, lab: Lab, material: Material) -> None:
    expected = undisturbed.study(material, EPOCHS)
    for number in range(tally.tries):
        each, process = _started(lab, material, number)
        time.sleep(tally.chance.uniform(0, 0.3))
        stopped = tally.chance.choice(workers(process.pid))
        os.kill(stopped, signal.SIGSTOP)
        problems = _ended(process, each)
        problems += _failed_alone(each, expected, ["progress", "stall", "hang", "no sign", "responding"])
        tally.add(problems, f"study {number + 1}")
        with suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGKILL)
    tally.settle()


def _ended(process: subprocess.Popen[str], lab: Lab) -> list[str]:
    """Wait for a study in which a cell hangs; return what is wrong with its end."""
    try:
        process.wait(WATCHDOG_PATIENCE)
    except subprocess.TimeoutExpired:
        kill_group(process)
        return [f"the study waits for its stopped worker after {WATCHDOG_PATIENCE:.0f} s"]
    return lab.done(process).problems(1) + left(process)


def test_all_suspended(tally: Tally, lab: Lab, material: Material) -> None:
    expected = undisturbed.study(material, EPOCHS)
    for number in range(tally.tries):
        each, process = _started(lab, material, number)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(30 if tally.is_full else 3)
        os.killpg(process.pid, signal.SIGCONT)
        done = each.done(process)
        tally.add(done.problems(0) + differences(each.records(), expected), f"study {number + 1}")
    tally.settle()

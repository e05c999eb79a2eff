"""Work on a study grows linearly with its cells: files that are opened, and instructions that the package executes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import simulated_study
from simulated_study import NAME

import cifar_lab
from cifar_lab.execution.runner import job_of
from cifar_lab.execution.scheduler import Scheduler
from cifar_lab.inspect import failures, status
from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.results.compare import compare
from cifar_lab.store import checksum, invocation_index
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.selection import select

SEEDS = (8, 16, 32)
"""Numbers of seeds of two variants; each doubles the one before."""
STATES = {"finished": (), "half finished": ("--done", "0.5"), "only asked for": ("--empty", "--notes", "3")}
TOLERANCE = 0.003
"""Share of the work by which it may depart from a straight line: sizes of dictionaries, digits of numbers."""
PACKAGE = str(Path(cifar_lab.__file__).parent)


@pytest.fixture(scope="module", params=STATES.values(), ids=list(STATES))
def studies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of a study in three sizes, in one state."""
    folder = tmp_path_factory.mktemp("studies")
    for seeds in SEEDS:
        words = ["--variants", "2", "--seeds", str(seeds), "--epochs", "2", *request.param]
        simulated_study.main([str(folder / str(seeds)), *words])
    return [folder / str(seeds) for seeds in SEEDS]


def take_all(runs: Path) -> None:
    plan = simulated_study.plan_study(runs, simulated_study.ablation(2, int(runs.name)), epochs=2)
    queue = Scheduler([job_of(cell, plan, runs, simulated_study.EXECUTION) for cell in plan.cells])
    while queue:
        assert queue.take(set()) is not None


WORK: dict[str, Callable[[Path], object]] = {
    "index": read_index,
    "status": lambda runs: status.look(select(runs, NAME), runs).as_dict(),
    "failures": lambda runs: failures.read_failures([select(runs, NAME)], runs),
    "compare": lambda runs: compare(runs, NAME),
    "plan and scheduler": take_all,
    "relations of cells": lambda runs: InvocationHistory(read_index(runs)),
}


@contextmanager
def counted(counts: dict[str, int]) -> Iterator[None]:
    """Count the instructions of the package's own code that are executed."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counts["instructions"] += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def bend(counts: list[int]) -> float:
    """Return by how much the last count is beyond the line through the first two, as a share of it."""
    first, second, last = counts
    return (last - (first + 3 * (second - first))) / last


@pytest.mark.parametrize("work", WORK)
def test_work_grows_linearly(studies: list[Path], work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    executed: list[int] = []
    really = checksum.open_regular
    for runs in studies:
        monkeypatch.setattr(invocation_index, "_notes", {})
        monkeypatch.setattr(invocation_index, "_indexes", {})
        WORK[work](runs)  # modules are loaded, and caches filled that do not depend on the number of cells
        monkeypatch.setattr(invocation_index, "_notes", {})
        monkeypatch.setattr(invocation_index, "_indexes", {})
        counts, paths = {"instructions": 0}, []
        monkeypatch.setattr(checksum, "open_regular", lambda path, paths=paths: paths.append(path) or really(path))
        with counted(counts):
            WORK[work](runs)
        monkeypatch.setattr(checksum, "open_regular", really)
        opened.append(len(paths))
        executed.append(counts["instructions"])
    assert opened[0] > 0
    assert bend(opened) <= 0, f"files opened: {opened}"
    assert executed[0] > 0
    assert bend(executed) < TOLERANCE, f"instructions: {executed}"


def test_workers_on_one_folder_write_each_cell_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    simulated_study.main([str(runs), "--variants", "2", "--seeds", "6", "--epochs", "2", "--workers", "3"])
    assert '"trained": 12' in capsys.readouterr().out
    assert len(read_index(runs).invocations) == 3
    assert {row.n for row in compare(runs, NAME).rows} == {6}


def test_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        simulated_study.main([str(tmp_path)])

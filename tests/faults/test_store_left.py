"""A shipper that is given up takes nobody down with it, and runners share what there is to ship."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cifar_lab.mlflow_sync.exit_gate import ExitGate, ThreadAbandoned
from cifar_lab.mlflow_sync.upload_lease import UploadLease

HOUSE = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
from cifar_lab.report.charts import cell_png
from cifar_lab.store.journal import read_points
from cifar_lab.mlflow_sync.uploader import Uploader
from made.mlflow_study import CONFUSION, Study

class Slow:
    uri, outside = "http://slow", staticmethod(nullcontext)
    def reach(self): pass
    def experiment(self, *_): return "1"
    def find(self, *_, **__): return None
    def find_each(self, *_, **__): return []
    def list_runs(self, *_): return [], None
    def start(self, *_, **__): return "f" * 32
    def tag(self, *_, **__):
        with self.outside():
            time.sleep(0.02)
    log = upload = resume = end = tag

def draw(record):
    return cell_png.draw_cell_figures([(p.epoch, p.values) for p in read_points(record.folder)] * 50, CONFUSION, "cell")

runs = Path(sys.argv[1]) / "runs"
runs.mkdir()
study = Study(runs)
study.all()
shipper = Uploader(runs, study.invocation(), Slow, draw=draw, say=print)
shipper.start()
print("left", shipper.drain(float(sys.argv[2])))
"""


@pytest.mark.parametrize("seconds", [0.6, *(pytest.param(each, marks=pytest.mark.slow) for each in (0.3, 0.9, 1.2))])
def test_a_process_that_leaves_its_shipper_while_it_draws_ends_well(tmp_path: Path, seconds: float) -> None:
    line = [sys.executable, "-c", PROGRAM, str(tmp_path), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOUSE), str(HOUSE / "tests")])}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("left ")


@contextmanager
def _thread(gate: ExitGate, waits: threading.Event, steps: list[str]) -> Iterator[threading.Thread]:
    def work() -> None:
        with gate.working():
            steps.append("began")
            with gate.outside():
                waits.wait()
            steps.append("went on")

    def run() -> None:
        try:
            work()
        except ThreadAbandoned:
            steps.append("left")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not steps:
        time.sleep(0.01)
    yield thread
    waits.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_thread_that_waits_when_it_is_left_works_no_more() -> None:
    gate, waits, steps = ExitGate(), threading.Event(), list[str]()
    with _thread(gate, waits, steps):
        gate.shut()
    assert steps == ["began", "left"]


def test_a_thread_that_is_not_left_goes_on() -> None:
    gate, waits, steps = ExitGate(), threading.Event(), list[str]()
    with _thread(gate, waits, steps):
        pass
    assert steps == ["began", "went on"]


def test_who_leaves_a_thread_waits_for_what_it_is_doing() -> None:
    gate, is_done, has_begun = ExitGate(), threading.Event(), threading.Event()

    def draw() -> None:
        with gate.working():
            has_begun.set()
            time.sleep(0.2)
            is_done.set()

    threading.Thread(target=draw, daemon=True).start()
    has_begun.wait()
    gate.shut()
    assert is_done.is_set()


def test_a_cell_is_shipped_by_one_runner_and_by_another_after_it(tmp_path: Path) -> None:
    first, second, other = (UploadLease(tmp_path, name) for name in ("se_ratio", "se_ratio", "blocks"))
    assert first.take("a")
    assert first.take("a")
    assert not second.take("a")
    assert second.take("b")
    assert other.take("a"), "a cell has a run of its own in each ablation"
    first.release()
    assert second.take("a")
    second.release()
    other.release()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from cifar_lab.mlflow_sync.upload_lease import UploadLease;"
        "print(UploadLease(Path(sys.argv[1]), 'se_ratio').take('a')); sys.stdout.flush(); os._exit(1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HOUSE), str(HOUSE / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True\n"
    assert UploadLease(tmp_path, "se_ratio").take("a")

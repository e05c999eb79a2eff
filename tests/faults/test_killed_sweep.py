"""Sweeps that are killed at random moments, and several at once: the next one goes on, and no cell is trained twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from cifar_lab.search import storage, stored_trials
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_events

KILLS = int(os.environ.get("CIFAR_LAB_KILLS", "4"))
PATIENCE = 400
SPACE = '''
"""Which rate?"""
from cifar_lab import RESNET18
from cifar_lab.search.dimension import Integer, Real
from cifar_lab.search.space import Space

SPACE = Space(
    question="Which rate?",
    baseline=RESNET18.override(
        {"model.width": 8, "model.blocks": (1,), "train.batch_size": 10, "train.epochs": 3, "data.val_fraction": 0.2}
    ),
    dimensions=(
        Integer(path="model.width", low=8, high=32, step=8),
        Real(path="optim.lr", low=0.001, high=1.0, log=True),
    ),
)
'''


class Sweep:
    """The command line in a folder of its own."""

    def __init__(self, folder: Path, images: Path, *more: str) -> None:
        (folder / "rates.py").write_text(SPACE)
        self.folder, self.runs = folder, folder / "runs"
        self._line = [
            sys.executable, "-m", "cifar_lab", "sweep", "--study", "rates", "--space", "rates.py", "--data",
            str(images), "--max-params", "10k", "--pruner", "none", "--offline", "-y", "--json", "--workers", "1",
            *more,
        ]  # fmt: skip

    def start(self, trials: int, runner: str = "") -> subprocess.Popen[bytes]:
        # Output goes to files: a worker that outlives the runner would hold a pipe open.
        with (self.folder / f"out{runner}").open("w") as out, (self.folder / f"err{runner}").open("w") as err:
            line = [*self._line, "--trials", str(trials)]
            return subprocess.Popen(line, cwd=self.folder, stdout=out, stderr=err, start_new_session=True)

    def said(self, runner: str = "") -> str:
        return (self.folder / f"err{runner}").read_text()

    def study(self, url: str | None = None) -> optuna.Study:
        return optuna.load_study(study_name="rates", storage=storage.open_storage(url, self.runs))

    def records(self) -> list[CellRecord]:
        return [CellRecord(path) for path in sorted(self.runs.iterdir()) if len(path.name) == 64]


def require_whole(sweep: Sweep, wanted: int, url: str | None = None) -> None:
    """Check that all wanted trials are there, none is left running, and each has the value of a distinct cell."""
    every = stored_trials.all_trials(sweep.study(url))
    assert stored_trials.count_trials(every).trained == wanted
    assert not [trial.number for trial in every if trial.state in {TrialState.RUNNING, TrialState.WAITING}]
    for trial in filter(stored_trials.is_result, every):
        result = CellRecord(sweep.runs / trial.user_attrs[stored_trials.CELL]).result()
        assert result is not None
        assert trial.value == result.metrics["val/acc"]
    for record in sweep.records():
        events = [event.kind for event in read_events(record.folder)]
        assert events.count("end") == 1, "a finished cell was trained again"
        assert record.state() == "finished"
    lines = (sweep.runs / "studies.journal").read_text().splitlines() if url is None else []
    assert all(json.loads(line) for line in lines)


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_whole(folder: Path, few_images: Path) -> None:
    sweep, chance, wanted = Sweep(folder, few_images), random.Random(os.environ.get("CIFAR_LAB_SEED", "0")), 4
    for _ in range(KILLS):
        process = sweep.start(wanted)
        time.sleep(chance.uniform(3, 25))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert sweep.start(wanted).wait(PATIENCE) == 0, sweep.said()
    assert "Traceback" not in sweep.said()
    require_whole(sweep, wanted)
    again = json.loads((folder / "out").read_text())
    assert (again["total"], again["running"]) == (wanted, 0)


@pytest.mark.slow
@pytest.mark.parametrize("url", [None, "sqlite:///studies.db"], ids=["journal", "database"])
def test_two_sweeps_at_once_share_the_work(url: str | None, folder: Path, few_images: Path) -> None:
    sweep = Sweep(folder, few_images, *(["--storage", url] if url is not None else []))
    runners = {name: sweep.start(6, name) for name in ("a", "b")}
    assert [process.wait(PATIENCE) for process in runners.values()] == [0, 0], sweep.said("a") + sweep.said("b")
    trained = [json.loads((folder / f"out{name}").read_text())["trained"] for name in runners]
    assert min(trained) >= 1, f"one did all the work: {trained}"
    require_whole(sweep, 6, url)

"""Kill what runs, at the worst moments: nothing is lost, and the numbers are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from cifar_lab.store import cell_owner
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_events, read_points
from cifar_lab.store.stored_json import write_stored

EPOCHS = 12
MEMORY = Path("/dev/shm")
PATIENCE = 300.0
TIMED = {
    "seconds", "epoch_seconds", "images_per_second", "memory/peak_mib", "memory/reserved_mib",
    "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
}  # fmt: skip


class Lab:
    """The command line in a folder of its own."""

    def __init__(self, folder: Path, images: Path, ablations: Path) -> None:
        self.runs = folder / "runs"
        self._folder = folder
        self._line = [
            sys.executable, "-m", "cifar_lab", "run-ablation", "tiny", f"train.epochs={EPOCHS}", "--data", str(images),
            "--ablations", str(ablations), "--offline", "-y",
        ]  # fmt: skip

    def start(self, *more: str, runner: str = "") -> subprocess.Popen[str]:
        # Output goes to files: a worker that outlives the runner would hold a pipe open.
        with (self._folder / f"out{runner}").open("w") as out, (self._folder / f"err{runner}").open("w") as err:
            return subprocess.Popen(
                [*self._line, *more], cwd=self._folder, stdout=out, stderr=err, text=True, start_new_session=True
            )

    def run(self, *more: str) -> int:
        return self.start(*more).wait(PATIENCE)

    def said(self, runner: str = "") -> str:
        return (self._folder / f"err{runner}").read_text()

    def trained(self, runner: str) -> int:
        return int(json.loads((self._folder / f"out{runner}").read_text())["trained"])

    def records(self) -> list[CellRecord]:
        return [CellRecord(path) for path in sorted(self.runs.iterdir()) if len(path.name) == 64]


def _numbers(record: CellRecord) -> dict[str, Any]:
    """All that must not depend on what happened on the way."""
    result = record.result()
    assert result is not None, record.state()
    points = {p.epoch: {k: v for k, v in p.values.items() if k not in TIMED} for p in read_points(record.folder)}
    weights = {name: array.tobytes() for name, array in load_file(record.weights).items()}
    return {"metrics": {k: v for k, v in result.metrics.items() if k not in TIMED}, "points": points, "w": weights}


def _wait(until: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def _epochs(lab: Lab) -> int:
    """Epochs that are done by now, of all cells together; the first of a cell is saved before its second is done."""
    if not lab.runs.exists():
        return 0
    return sum(event.kind == "points" for record in lab.records() for event in read_events(record.folder))


@pytest.fixture(scope="module")
def images_and_ablations(few_images: Path, tiny_ablation: Path) -> tuple[Path, Path]:
    return few_images, tiny_ablation


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, images_and_ablations: tuple[Path, Path]
) -> dict[str, dict[str, Any]]:
    lab = Lab(tmp_path_factory.mktemp("undisturbed"), *images_and_ablations)
    assert lab.run("--seeds", "0") == 0, lab.said()
    return {record.fingerprint: _numbers(record) for record in lab.records()}


@pytest.fixture
def lab(tmp_path: Path, images_and_ablations: tuple[Path, Path]) -> Lab:
    return Lab(tmp_path, *images_and_ablations)


def test_killed_with_everything_it_goes_on_and_ends_with_the_same_numbers(
    lab: Lab, undisturbed: dict[str, dict[str, Any]]
) -> None:
    process = lab.start("--seeds", "0")
    _wait(lambda: _epochs(lab) >= 3, "three epochs")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    _wait(lambda: all(record.state() != "running" for record in lab.records()), "the workers to be gone")
    assert any(record.checkpoint.exists() for record in lab.records())
    assert all(record.state() in {"missing", "finished"} for record in lab.records())

    assert lab.run("--seeds", "0") == 0, lab.said()
    assert {record.fingerprint: _numbers(record) for record in lab.records()} == undisturbed
    events = [event for record in lab.records() for event in read_events(record.folder)]
    assert any(event.kind == "resume" and event.epoch for event in events), (
        "nothing was resumed: the kill came too late to test anything"
    )


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on another file system than `tmp_path`."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK) or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_killed_with_its_machine_and_its_records_on_a_mounted_drive_it_goes_on_elsewhere(
    lab: Lab, undisturbed: dict[str, dict[str, Any]], drive: Path
) -> None:
    lab.runs = drive / "my drive/runs"
    words = ["--seeds", "0", "--runs", str(lab.runs)]
    process = lab.start(*words)
    _wait(lambda: _epochs(lab) >= 3, "three epochs")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    _wait(lambda: all(record.state() != "running" for record in lab.records()), "the workers to be gone")
    left = [(record, record.owner()) for record in lab.records()]
    for record, owner in left:
        if owner is not None:  # a hosted notebook begins on another machine, where the lock was never held
            ago = owner.model_copy(update={"machine": "gone", "time": owner.time - 600_000})
            write_stored(record.folder / cell_owner.FILE, ago)
    assert any(owner is not None for _, owner in left), "killed too late"
    assert all((record.folder / "lock").exists() for record, owner in left if owner is not None)

    assert lab.run(*words) == 0, lab.said()
    assert {record.fingerprint: _numbers(record) for record in lab.records()} == undisturbed
    events = [event for record in lab.records() for event in read_events(record.folder)]
    assert any(event.kind == "resume" and event.epoch for event in events), "nothing was resumed: killed too late"


@pytest.mark.slow
def test_killed_with_two_passes_averages_and_skipped_blocks_it_ends_with_the_same_numbers(
    tmp_path: Path, images_and_ablations: tuple[Path, Path]
) -> None:
    words = [
        "--seeds", "0", "optim.sam.rho=0.05", "model.stochastic_depth=0.3", "model.activation=gelu",
        "train.swa.enabled=true", "train.swa.start=0.1",
    ]  # fmt: skip
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, killed = (Lab(tmp_path / name, *images_and_ablations) for name in ("whole", "killed"))
    assert whole.run(*words) == 0, whole.said()
    process = killed.start(*words)
    _wait(lambda: _epochs(killed) >= 9, "nine epochs of two cells")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    _wait(lambda: all(record.state() != "running" for record in killed.records()), "the workers to be gone")
    assert killed.run(*words) == 0, killed.said()
    assert [_numbers(record) for record in killed.records()] == [_numbers(record) for record in whole.records()]
    events = [event for record in killed.records() for event in read_events(record.folder)]
    assert any(event.kind == "resume" and event.epoch for event in events), "nothing was resumed: killed too late"


@pytest.mark.slow
@pytest.mark.parametrize(
    "by", [pytest.param(signal.SIGINT, id="ctrl-c"), pytest.param(signal.SIGTERM, id="a scheduler")]
)
def test_told_to_stop_it_saves_says_how_to_go_on_and_exits_130(
    lab: Lab, undisturbed: dict[str, dict[str, Any]], by: signal.Signals
) -> None:
    process = lab.start("--seeds", "0")
    _wait(lambda: _epochs(lab) >= 2, "two epochs")
    os.killpg(process.pid, by)  # as terminals and schedulers do: to every process
    assert process.wait(PATIENCE) == 130
    assert "the same command goes on from there" in lab.said()
    assert "Traceback" not in lab.said()
    assert "for another runner" not in lab.said(), "what was stopped waits for nobody"
    assert not any(record.failure() for record in lab.records())

    assert lab.run("--seeds", "0") == 0, lab.said()
    assert {record.fingerprint: _numbers(record) for record in lab.records()} == undisturbed


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_failed_cell_and_stops_no_other(
    lab: Lab, undisturbed: dict[str, dict[str, Any]]
) -> None:
    process = lab.start("--seeds", "0", "--workers", "1")
    _wait(lambda: _epochs(lab) >= 2, "two epochs")
    os.kill(_worker_of(process.pid), signal.SIGKILL)
    assert process.wait(PATIENCE) == 1
    states = sorted(record.state() for record in lab.records())
    assert states == ["failed", "finished"]
    assert "killed by SIGKILL" in lab.said()

    assert lab.run("--seeds", "0", "--workers", "1") == 1, "a failed cell is kept apart"
    assert sorted(record.state() for record in lab.records()) == ["failed", "finished"]
    assert lab.run("--seeds", "0", "--workers", "1", "--retry-failed") == 0, lab.said()
    # Two workers share two cores and one has both: another execution, and on this network the same numbers or not.
    assert all(record.result() is not None for record in lab.records())
    assert {record.fingerprint for record in lab.records()} == set(undisturbed)


@pytest.mark.slow
def test_what_is_finished_is_not_trained_again(lab: Lab) -> None:
    assert lab.run("--seeds", "0", "train.epochs=1") == 2, "an override that is given twice is refused"
    assert lab.run("--seeds", "0") == 0
    before = {record.folder: (record.folder / "result.json").stat().st_mtime_ns for record in lab.records()}
    assert lab.run("--json") == 0
    tree = json.loads((lab.runs.parent / "out").read_text())
    assert (tree["trained"], tree["reused"]) == (2, 2)
    assert {cell["state"] for cell in tree["cells"]} == {"finished"}
    assert all((folder / "result.json").stat().st_mtime_ns == time for folder, time in before.items())


@pytest.mark.slow
def test_two_runners_share_the_cells_and_train_none_twice(lab: Lab) -> None:
    runners = {name: lab.start("--workers", "1", "--json", runner=name) for name in ("a", "b")}
    assert [process.wait(PATIENCE) for process in runners.values()] == [0, 0], lab.said("a") + lab.said("b")
    shares = [lab.trained(name) for name in runners]
    assert sum(shares) == 4
    for name, mine in zip(runners, shares, strict=True):
        assert lab.said(name).count(": training, ") == mine, "what the other has is not announced"
        tree = json.loads((lab.runs.parent / f"out{name}").read_text())
        assert mine + tree["by_another_runner"] + tree["reused"] == 4
        assert f"{mine} trained, {tree['by_another_runner']} by another runner, " in lab.said(name)
    assert min(shares) >= 1, "one runner did all the work"
    for record in lab.records():
        starts = [event for event in read_events(record.folder) if event.kind == "start"]
        assert len(starts) == 1
        assert record.owner() is None


@pytest.mark.slow
def test_what_a_killed_runner_leaves_the_other_takes_over(lab: Lab, undisturbed: dict[str, dict[str, Any]]) -> None:
    # One thread each, as two workers on two cores have: the same execution as the undisturbed run.
    first = lab.start("--seeds", "0", runner="a")
    _wait(lambda: _epochs(lab) >= 3, "three epochs")
    os.killpg(first.pid, signal.SIGSTOP)  # alive and silent, so that the second one surely finds its cells taken
    second = lab.start("--seeds", "0", "--json", runner="b")
    _wait(lambda: "for another runner" in lab.said("b"), "the second runner to wait")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(PATIENCE)
    assert second.wait(PATIENCE) == 0, lab.said("b")
    assert lab.trained("b") >= 1, "the kill came too late to test anything"
    assert {record.fingerprint: _numbers(record) for record in lab.records()} == undisturbed


def _worker_of(runner: int) -> int:
    """The process that trains: a child of the fork server, which is a child of the runner."""
    import psutil

    for child in psutil.Process(runner).children(recursive=True):
        if child.parent() is not None and child.ppid() != runner:
            return child.pid
    raise AssertionError("no worker process")

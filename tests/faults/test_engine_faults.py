"""Faults of the machine while cells train: a full disk, a worker that hangs, little memory, a terminal that goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_events

PATIENCE = 300.0


class Lab:
    """The command line in a folder of its own, with its records in another."""

    def __init__(self, folder: Path, images: Path, ablations: Path, runs: Path | None = None, epochs: int = 12) -> None:
        self.folder, self.runs = folder, runs or folder / "runs"
        self.line = [
            sys.executable, "-m", "cifar_lab", "run-ablation", "tiny", f"train.epochs={epochs}", "--data", str(images),
            "--ablations", str(ablations), "--runs", str(self.runs), "--offline", "-y",
        ]  # fmt: skip

    def start(self, *more: str, **how: Any) -> subprocess.Popen[str]:
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            files = {"stdout": out, "stderr": err, **how}
            return subprocess.Popen([*self.line, *more], cwd=self.folder, text=True, start_new_session=True, **files)

    def run(self, *more: str) -> int:
        return self.start(*more).wait(PATIENCE)

    def said(self) -> str:
        return (self.folder / "err").read_text()

    def complaints(self) -> list[str]:
        return [line for line in self.said().splitlines() if line.startswith("cifar-lab: ")]

    def records(self) -> list[CellRecord]:
        if not self.runs.exists():
            return []
        return [CellRecord(path) for path in sorted(self.runs.iterdir()) if len(path.name) == 64]

    def states(self) -> list[str]:
        return sorted(record.state() for record in self.records())

    def epochs(self) -> int:
        return sum(event.kind == "points" for record in self.records() for event in read_events(record.folder))


def wait(until: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def workers(runner: int) -> list[psutil.Process]:
    """The processes that train: children of the fork server, which is a child of the runner."""
    return [child for child in psutil.Process(runner).children(recursive=True) if child.ppid() != runner]


@pytest.fixture
def lab(tmp_path: Path, few_images: Path, tiny_ablation: Path) -> Lab:
    return Lab(tmp_path, few_images, tiny_ablation)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a disk of a given size, `600k`, in memory; for the administrator of a machine that lets it."""
    mounted: list[Path] = []

    def make(size: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip(f"no disk of its own can be made here: {made.stderr.decode().strip()}")
        mounted.append(place)
        return place

    if sys.platform != "linux":
        pytest.skip("disks in memory are made with Linux's tmpfs")
    yield make
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_before_the_start_is_refused_in_one_line(
    small_disk: Callable[[str], Path], tmp_path: Path, few_images: Path, tiny_ablation: Path
) -> None:
    disk = small_disk("200k")
    (disk / "ballast").write_bytes(bytes(196 * 1024))
    lab = Lab(tmp_path, few_images, tiny_ablation, disk / "runs")
    assert lab.run("--seeds", "0") == 2
    assert len(lab.complaints()) == 1
    assert "cannot be written (No space left on device)" in lab.complaints()[0]
    assert "Traceback" not in lab.said()
    assert lab.records() == []


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_fails_no_cell_and_leaves_the_others_unbegun(
    small_disk: Callable[[str], Path], tmp_path: Path, few_images: Path, tiny_ablation: Path
) -> None:
    disk = small_disk("300k")
    lab = Lab(tmp_path, few_images, tiny_ablation, disk / "runs", epochs=3)
    (disk / "ballast").write_bytes(bytes(180 * 1024))  # leaves room for a cell or two of six
    assert lab.run("--seeds", "0-2", "--workers", "1") == 1, lab.said()
    assert "Traceback" not in lab.said()
    assert f"no space left on device: {disk}/runs/" in lab.said()
    begun = len(lab.records())
    assert f"; {6 - begun} cells were not begun; the same command goes on from there" in lab.said()
    assert set(lab.states()) <= {"missing", "finished"}
    assert not any(record.failure() for record in lab.records())

    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
    assert lab.run("--seeds", "0", "--workers", "1") == 0, lab.said()
    assert lab.states().count("finished") >= 2


@pytest.mark.slow
def test_a_worker_that_hangs_is_named_and_ended_and_the_others_go_on(lab: Lab) -> None:
    process = lab.start("--seeds", "0", "--workers", "1", "--stall-after", "4", "train.batch_size=12")
    wait(lambda: lab.epochs() >= 2, "two epochs")
    (stuck,) = workers(process.pid)
    stuck.suspend()
    assert process.wait(PATIENCE) == 1
    assert lab.states() == ["failed", "finished"]
    (failed,) = [failure for record in lab.records() if (failure := record.failure()) is not None]
    assert failed.error.startswith("no progress for ")
    assert f"process {stuck.pid}" in failed.error
    assert "--stall-after or CIFAR_LAB_STALL_AFTER allows more" in lab.said()
    assert "Traceback" not in lab.said()
    assert not stuck.is_running()


@pytest.mark.slow
def test_a_worker_that_was_stopped_for_a_moment_and_a_runner_that_was_go_on(lab: Lab) -> None:
    process = lab.start("--seeds", "0", "--stall-after", "4")
    wait(lambda: lab.epochs() >= 2, "two epochs")
    stopped = workers(process.pid)[0]
    stopped.suspend()
    time.sleep(1.5)
    stopped.resume()
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(6)  # longer than is allowed: but nobody looked
    os.killpg(process.pid, signal.SIGCONT)
    assert process.wait(PATIENCE) == 0, lab.said()
    assert lab.states() == ["finished", "finished"]


@pytest.mark.slow
def test_ctrl_c_twice_ends_all_at_once_even_a_worker_that_hangs(lab: Lab) -> None:
    process = lab.start("--seeds", "0")
    wait(lambda: lab.epochs() >= 2, "two epochs")
    family = psutil.Process(process.pid).children(recursive=True)
    workers(process.pid)[0].suspend()
    os.killpg(process.pid, signal.SIGINT)
    wait(lambda: "once more (Ctrl-C) stops at once" in lab.said(), "a word on how to stop at once")
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in lab.said()
    assert "stopped at once" in lab.said()
    gone, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "nobody is left behind"
    assert not any(record.failure() for record in lab.records())
    assert lab.run("--seeds", "0") == 0, lab.said()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no terminals that hang up")
@pytest.mark.slow
def test_a_terminal_that_is_closed_is_a_stop_that_saves(lab: Lab) -> None:
    process = lab.start(
        "--seeds", "0", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
    )  # under nohup, too
    wait(lambda: lab.epochs() >= 2, "two epochs")
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(PATIENCE) == 130
    assert "stopped after saving" in lab.said()
    assert any(record.checkpoint.exists() for record in lab.records())
    assert not any(record.failure() for record in lab.records())
    assert lab.run("--seeds", "0") == 0, lab.said()
    assert "resumed at epoch " in lab.said()


@pytest.mark.slow
def test_under_nohup_a_study_goes_on_when_its_terminal_is_closed(lab: Lab) -> None:
    ignoring: Any = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = lab.start("--seeds", "0", **ignoring)
    wait(lambda: lab.epochs() >= 1, "an epoch")
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(PATIENCE) == 0, lab.said()
    assert lab.states() == ["finished", "finished"]


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_study(lab: Lab) -> None:
    process = lab.start("--seeds", "0", stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(PATIENCE) == 0
    assert lab.states() == ["finished", "finished"]


@pytest.mark.parametrize("words", ["list", "list --json", "describe se_ratio", "--help", "--version"])
def test_a_full_standard_output_is_one_line(words: str, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cifar_lab", *words.split()], stdout=full, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["cifar-lab: standard output cannot be written: No space left on device"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_end_nothing(closed: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m cifar_lab list --json {closed}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    if " >&-" not in f" {closed}":
        assert json.loads(done.stdout)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("words", ["run-ablation --help", "describe se_ratio", "describe nœud"])
def test_a_terminal_without_unicode_gets_what_it_can_show(encoding: str, words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cifar_lab", *words.split()], env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == (2 if "nœud" in words else 0)
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set as on Linux")
def test_steps_that_find_no_memory_end_the_command_in_one_line(tmp_path: Path, few_images: Path) -> None:
    limits = "ulimit -v 4000000"
    words = (
        f"train model.width=512 model.kernel=11 train.batch_size=4096 --data {few_images} --max-params 90000M -y "
        "--offline --device cpu"
    )
    line = f"{limits}; exec {sys.executable} -m cifar_lab {words}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    complaints = [text for text in done.stderr.splitlines() if text.startswith("cifar-lab: ")]
    assert (done.returncode, len(complaints)) == (2, 1), done.stderr[-2000:]
    assert "out of memory" in complaints[0]
    assert "try a smaller network, model.width" in complaints[0]
    assert "Traceback" not in done.stderr

"""The command line in a folder of its own, its processes, and the numbers that a study ends with."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_events, read_points

PATIENCE = 300.0
"""Most seconds that a command may take, on a busy machine."""
ENDS_WITHIN = 30.0
"""Seconds that a study may take to save and end, on a busy machine."""
TIMED = {
    "seconds", "epoch_seconds", "images_per_second", "memory/peak_mib", "memory/reserved_mib",
    "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
}  # fmt: skip
"""Metrics that differ from run to run."""
STUDY = '''"""Does dropout matter to a network of one block?"""

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab import EFFICIENT_RESNET

ABLATION = Ablation(
    question="Does dropout matter to a network of one block?",
    source="the tests",
    baseline=EFFICIENT_RESNET.override({{
        "model.blocks": (1,), "model.width": {width}, "train.batch_size": 10, "train.epochs": {epochs},
        "data.val_fraction": {val_fraction}, "model.dropout": 0.0,
    }}),
    factors={factors},
    variants=(
        Variant(name="off"),
        *(Variant(name=f"on{{i}}", diff={{"model.dropout": 0.01 * i}}) for i in range(1, {variants})),
        {more}
    ),
    control="off",
    seeds=tuple(range({seeds})),
)
'''


@dataclass(frozen=True, kw_only=True)
class Material:
    """Files used by every study of the table, below one folder."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def ablations(self) -> Path:
        return self.root / "ablations"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def environment(self) -> dict[str, str]:
        """Return the environment of a command: the cache of these tests, one thread, no tracking address."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "CIFAR_LAB_"))}
        return {
            **ours, "CIFAR_LAB_CACHE": str(self.cache), "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }  # fmt: skip


def write_images(root: Path, *, train: int, test: int) -> None:
    """Write a folder of ten classes with so many images a class in each part."""
    rng = np.random.default_rng(0)
    for part, number in (("train", train), ("test", test)):
        for c in range(10):
            (root / part / f"class{c}").mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8)
                pixels[:, 3 * c : 3 * c + 3] += 100
                Image.fromarray(pixels).save(root / part / f"class{c}" / f"{i}.png")


def write_study(
    path: Path, *, width: int = 8, epochs: int = 12, variants: int = 2, seeds: int = 2, val_fraction: float = 0.2,
    wide: int | None = None,
) -> None:  # fmt: skip
    """Write an ablation of `variants` × `seeds` cells; `wide`: the width of one further variant."""
    filled = STUDY.format(
        width=width, epochs=epochs, variants=variants, seeds=seeds, val_fraction=val_fraction,
        factors=("model.dropout",) if wide is None else ("model.dropout", "model.width"),
        more="" if wide is None else f'Variant(name="wide", diff={{"model.width": {wide}}}, over_budget=True),',
    )  # fmt: skip
    path.write_text(filled)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def problems(self, *codes: int) -> list[str]:
        """Return what is wrong with the end of the command: a traceback, or another exit code than one of `codes`."""
        wrong = [f"traceback: {last_line(self.err)}"] if "Traceback" in self.err + self.out else []
        if self.code not in codes:
            wrong.append(f"exit code {self.code}: {last_line(self.err)}")
        return wrong


def last_line(text: str) -> str:
    """Return the last line of `text` that is not empty."""
    return ([line for line in text.splitlines() if line.strip()] or ["(nothing printed)"])[-1][:300]


@dataclass(kw_only=True)
class Lab:
    """A user's folder, and the commands that are started in it."""

    folder: Path
    material: Material
    study: str = "tiny"
    runs: Path = field(init=False)
    variables: dict[str, str] = field(default_factory=dict)
    """Further environment variables of every command."""
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runs = self.folder / "runs"

    def line(self, *more: str) -> list[str]:
        """Return the command line that trains the study."""
        places = ["--data", str(self.material.images), "--ablations", str(self.material.ablations)]
        return ["run-ablation", self.study, *places, "--runs", str(self.runs), "--workers", "2", "-y", *more]

    def start(self, line: Iterable[str], *, name: str = "", **how: Any) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; its output goes to the files `out<name>` and `err<name>`.

        Files, not pipes: a worker that outlives the runner would hold a pipe open.
        """
        env = {**self.material.environment(), **self.variables, **how.pop("env", {})}
        with (self.folder / f"out{name}").open("w") as out, (self.folder / f"err{name}").open("w") as err:
            given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err} | how
            process = subprocess.Popen(
                [sys.executable, "-m", "cifar_lab", *line], cwd=self.folder, env=env, text=True,
                start_new_session=True, **given,
            )  # fmt: skip
        self._started.append(process)
        return process

    def done(self, process: subprocess.Popen[str], *, name: str = "", patience: float = PATIENCE) -> Done:
        """Wait for a command to end. One that does not is killed, and has the exit code -99."""
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            kill_group(process)
            code = -99
        out, err = (self.folder / f"out{name}", self.folder / f"err{name}")
        return Done(code=code, out=out.read_text(errors="replace"), err=err.read_text(errors="replace"))

    def run(self, *line: str, name: str = "", patience: float = PATIENCE, **how: Any) -> Done:
        """Run a command to its end."""
        return self.done(self.start(line, name=name, **how), name=name, patience=patience)

    def records(self) -> list[CellRecord]:
        """Return the records of all cells that were begun."""
        if not self.runs.exists():
            return []
        return [CellRecord(path) for path in sorted(self.runs.iterdir()) if len(path.name) == 64]

    def epochs(self) -> int:
        """Return the number of epochs that all cells together have written down by now."""
        return sum(event.kind == "points" for record in self.records() for event in read_events(record.folder))

    def end(self) -> None:
        """Kill whatever is left of the commands that were started."""
        for process in self._started:
            kill_group(process)


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a session, and all of its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not group(process.pid), "the killed processes to be gone", 60)


def group(leader: int) -> list[psutil.Process]:
    """Return the living processes of a group."""
    members = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def left(process: subprocess.Popen[Any]) -> list[str]:
    """Kill the processes that are left of a command some seconds after its end; return one line if there are any."""
    end = time.monotonic() + ENDS_WITHIN
    while (members := group(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    names = []
    for each in members:
        with suppress(psutil.Error):
            names.append(" ".join(each.cmdline()[:4]))
    kill_group(process)
    return [f"{len(members)} processes are left: {' and '.join(names)}"] if members else []


def workers(runner: int) -> list[int]:
    """Return the processes that train: children of the fork server, which is a child of the runner."""
    pids = []
    with suppress(psutil.Error):
        for child in psutil.Process(runner).children(recursive=True):
            with suppress(psutil.Error):
                if child.ppid() != runner and child.status() != psutil.STATUS_ZOMBIE:
                    pids.append(child.pid)
    return pids


def wait_until(is_so: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until `is_so`; fail after `patience` seconds."""
    end = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def numbers(record: CellRecord) -> dict[str, Any]:
    """Return all of a finished cell that must not depend on what happened on the way."""
    result = record.result()
    assert result is not None, f"{record.fingerprint[:12]} is {record.state()}"
    points = {p.epoch: {k: v for k, v in p.values.items() if k not in TIMED} for p in read_points(record.folder)}
    metrics = {k: v for k, v in result.metrics.items() if k not in TIMED}
    with np.load(record.predictions) as arrays:
        predictions = {name: arrays[name].tobytes() for name in ("predictions", "labels", "confidence")}
    return {
        "status": result.status, "metrics": metrics, "points": points, "weights": sha256(record.weights),
        "predictions": predictions,
    }  # fmt: skip


def differences(records: Iterable[CellRecord], expected: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each cell that is not finished, not expected, or has other numbers than `expected`."""
    problems, seen = [], set()
    for record in records:
        name = record.fingerprint[:12]
        seen.add(record.fingerprint)
        if record.fingerprint not in expected:
            problems.append(f"{name} was not asked for")
        elif record.result() is None:
            failure = record.failure()
            problems.append(f"{name} is {record.state()}: {failure.error if failure is not None else 'no reason'}")
        else:
            own, other = numbers(record), expected[record.fingerprint]
            problems += [f"{name}: other {part}" for part in own if own[part] != other[part]]
    return problems + [f"{name[:12]} was not trained" for name in expected if name not in seen]


@dataclass
class Finished:
    """The results that stood at some moment: none of them may be written again."""

    stamps: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def look(self, records: Iterable[CellRecord]) -> list[str]:
        """Note the results that are there now; return one line for each that was written anew since the last look."""
        problems = []
        for record in records:
            path = record.folder / "result.json"
            with suppress(FileNotFoundError):
                stat = path.stat()
                stamp = (stat.st_ino, stat.st_mtime_ns)
                if self.stamps.setdefault(path, stamp) != stamp:
                    problems.append(f"{record.fingerprint[:12]} was trained again after it had finished")
                    self.stamps[path] = stamp
        return problems

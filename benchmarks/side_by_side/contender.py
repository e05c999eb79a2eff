"""Contenders: commands in fresh processes, as a user would run them, measured in turns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cifar_lab.execution.fork_server import ALLOCATOR
from side_by_side.results import Absent, Found, Spread

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
PATIENCE = 2 * 3600.0
"""Seconds after which a contender is stopped."""
KEPT_OUT = ("MALLOC_", "OMP_", "MKL_", "KMP_", "GOMP_", "TORCH", "MLFLOW_", "CIFAR_LAB_RUNS", "CIFAR_LAB_ABLATIONS")
"""Prefixes of environment variables that would change a contender's speed."""
Read = Callable[[str, Path], Mapping[str, float]]
"""Function that extracts numbers by name from a contender's output and folder."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Extent and data of the measurements."""

    is_quick: bool
    data: str
    """`synthetic`, or the absolute path of a folder or zip."""
    scratch: Path
    """An empty folder for everything that contenders write."""

    def size(self, full: Any, quick: Any) -> Any:
        """Return a number of steps or images; `quick` for a test that everything works."""
        return quick if self.is_quick else full


class Failed(Exception):
    """Error raised if a contender has no result; the message is one line."""


def last_line(printed: str, folder: Path) -> Mapping[str, float]:  # noqa: ARG001 (a Read)
    """Return the JSON object in the last line, as printed by the programs here."""
    return json.loads(printed.strip().splitlines()[-1])


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Command to be measured in `folder`, which is emptied before each round."""

    name: str
    line: tuple[str, ...]
    folder: Path
    read: Read = last_line
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None
    """Module that it requires."""

    def run(self) -> dict[str, float]:
        """Return its numbers, with `wall_seconds`, the lifetime of its process.

        Raises:
            Failed: it ended with a code other than 0, printed no numbers, or took too long.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        plain = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_OUT)}
        began = time.perf_counter()
        process = subprocess.Popen(
            self.line, cwd=self.folder, env={**plain, **self.environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            printed, complaints = process.communicate(timeout=PATIENCE)
        except BaseException as error:  # its children, too, would disturb later measurements
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"given up after {PATIENCE:.0f} s") from error
            raise
        seconds = time.perf_counter() - began
        if process.returncode:
            said = complaints.strip().splitlines() or printed.strip().splitlines() or ["it said nothing"]
            raise Failed(f"it ended with code {process.returncode}: {said[-1]}")
        try:
            return {**self.read(printed, self.folder), "wall_seconds": seconds}
        except (ValueError, IndexError, KeyError, OSError) as error:
            raise Failed(f"no numbers ({type(error).__name__}: {error})") from error


def program(name: str, *words: object) -> tuple[str, ...]:
    """Return the command line of a file in `programs`."""
    return (sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, words))


def timed_steps(
    asked: Asked, name: str, file: str, width: int, count: tuple[int, int], *words: object, needs: str | None = None
) -> Contender:
    """Return a program that times training steps: `count` is (warm-up, timed)."""
    line = program(file, "--width", width, "--data", asked.data, "--warmup", count[0], "--steps", count[1], *words)
    environment = ALLOCATOR if file in {"lab_loop", "tracked_loop"} else {}
    return Contender(name=name, line=line, folder=asked.scratch / name, environment=environment, needs=needs)


@dataclass(frozen=True)
class Measured:
    """Results of each contender's rounds, or the reason for their absence."""

    results: Mapping[str, Sequence[Mapping[str, float]]]
    absent: Mapping[str, Absent]

    def of(self, contender: str, number: str) -> Found:
        """Return one number of a contender, by name."""
        return self.absent.get(contender) or Spread(tuple(result[number] for result in self.results[contender]))


def take_turns(contenders: Sequence[Contender], rounds: int) -> Measured:
    """Run every contender once per round, A, B, C, A, B, C, …, so that other load on the machine affects all alike.

    One that cannot run, or fails once, is left out from then on.
    """
    results: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    absent = {each.name: Absent("not installed") for each in contenders if each.needs and not find_spec(each.needs)}
    for number in range(rounds):
        for contender in (each for each in contenders if each.name not in absent):
            say(f"  round {number + 1} of {rounds}: {contender.name}")
            try:
                results[contender.name].append(contender.run())
            except Failed as error:
                say(f"  {contender.name}: {error}")
                absent[contender.name] = Absent(str(error))
    return Measured(results, absent)

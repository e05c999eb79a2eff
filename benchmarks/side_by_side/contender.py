"""Contender of a benchmark: a command line, run in a fresh process as a user would run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
PATIENCE = 2 * 3600.0
"""Seconds after which a contender is stopped."""
KEPT_OUT = ("MALLOC_", "OMP_", "MKL_", "KMP_", "GOMP_", "TORCH", "MLFLOW_", "CIFAR_LAB_RUNS", "CIFAR_LAB_ABLATIONS")
"""Prefixes of environment variables that would change a contender's speed."""
Results = Mapping[str, float]
Read = Callable[[str, Path], Results]
"""Function that extracts numbers by name from a contender's output and folder."""


class Failed(Exception):
    """Error raised if a contender has no result; the message is one line."""


def last_line(printed: str, folder: Path) -> Results:  # noqa: ARG001 (a Read)
    """Return the JSON object in the last line, as printed by the programs here."""
    found: dict[str, float] = json.loads(printed.strip().splitlines()[-1])
    return found


def nothing(printed: str, folder: Path) -> Results:  # noqa: ARG001 (a Read)
    """Return no numbers, for contenders of which only the time is measured."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Command to be measured. `{round}` in a word of `line` is replaced by the number of the round, from 0."""

    name: str
    line: tuple[str, ...]
    folder: Path
    """Working folder. It is emptied before each round, unless `prepare` is given, which prepares it."""
    read: Read = last_line
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    needs: str | None = None
    """Module that it requires."""

    def lacks(self) -> str | None:
        """Return the reason why it cannot run here, or None."""
        return "not installed" if self.needs is not None and find_spec(self.needs) is None else None

    def run(self, number: int) -> dict[str, float]:
        """Return its numbers in round `number`, with `wall_seconds`, the lifetime of its process.

        Raises:
            Failed: it ended with a code other than 0, printed no numbers, or took too long.
        """
        (self.prepare or self._empty)()
        line = [word.replace("{round}", str(number)) for word in self.line]
        began = time.perf_counter()
        printed = run(line, self.folder, self.environment)
        seconds = time.perf_counter() - began
        try:
            return {**self.read(printed, self.folder), "wall_seconds": seconds}
        except (ValueError, IndexError, KeyError, OSError) as error:
            raise Failed(f"no numbers ({type(error).__name__}: {error})") from error

    def _empty(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)


def run(line: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Return the output of `line`, run in `folder` with a plain environment and `environment`.

    Raises:
        Failed: it ended with a code other than 0, or took too long.
    """
    process = subprocess.Popen(
        line, cwd=folder, env={**plain_environment(), **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        printed, complaints = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise Failed(f"given up after {PATIENCE:.0f} s") from error
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        said = complaints.strip().splitlines() or printed.strip().splitlines() or ["it said nothing"]
        raise Failed(f"it ended with code {process.returncode}: {said[-1]}")
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    """End the process with its children, so that none disturbs later measurements."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def plain_environment() -> dict[str, str]:
    """Return this process's environment, without the variables in `KEPT_OUT`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(KEPT_OUT)}


def program(name: str, *words: object) -> tuple[str, ...]:
    """Return the command line of a file in `programs`."""
    return (sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, words))


def command(*words: object) -> tuple[str, ...]:
    """Return the command line of `cifar-lab`."""
    return (sys.executable, "-m", "cifar_lab", *map(str, words))

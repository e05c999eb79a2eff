"""The state that the stages share: options, time limits, and results that are written as soon as they exist."""

from __future__ import annotations

import json
import os
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from cifar_lab.config.execution import Execution
from cifar_lab.execution.settings import prepare_process

SCHEMA = 1
"""Version of `gpu.json`."""


class OutOfTime(Exception):
    """A stage has too little time left for its next part."""


class Pack:
    """Collect results in `gpu.json` and tell every stage how much time is left."""

    def __init__(self, options: Namespace, command: Sequence[str] = (), *, is_later: bool = False) -> None:
        """Begin with empty results, or with those of the stages before (`is_later`)."""
        self.options, self.device = options, torch.device(options.device)
        self.out = Path(options.out).resolve()
        self.logs = self.out / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic() if options.began is None else options.began
        self.deadline = self.began + options.seconds
        self.stage_deadline = self.deadline
        self.results: dict[str, Any] = {
            "schema": SCHEMA,
            "run": {
                "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                "tiny": options.tiny,
                "device": options.device,
                "data": Path(options.data).name,
                "commit": os.environ.get("CIFAR_LAB_COMMIT", ""),
                "command": " ".join(command),
            },
        }
        if is_later:
            self.reload()

    def reload(self) -> None:
        """Take over what another process wrote."""
        if (self.out / "gpu.json").exists():
            self.results = json.loads((self.out / "gpu.json").read_text())

    @property
    def is_tiny(self) -> bool:
        return bool(self.options.tiny)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def size(self, full: Any, tiny: Any) -> Any:
        """Return `full`, or `tiny` where a run only has to take every path."""
        return tiny if self.is_tiny else full

    @property
    def left(self) -> float:
        """Seconds until the running stage must end."""
        return min(self.stage_deadline, self.deadline) - time.monotonic()

    @property
    def left_in_all(self) -> float:
        """Seconds until the whole call must end."""
        return self.deadline - time.monotonic()

    def needs(self, seconds: float, what: str) -> None:
        """Raise OutOfTime if fewer than `seconds` are left for `what`; a tiny run needs none."""
        if not self.is_tiny and self.left < seconds:
            raise OutOfTime(f"{what}: {self.left:.0f} s left, {seconds:.0f} s needed")

    def note(self, stage: str, **values: Any) -> None:
        """Store values of a stage by name, write the file, and print one line."""
        self.results.setdefault(stage, {}).update(values)
        self._write()
        self._say(stage, values)

    def row(self, stage: str, **values: Any) -> None:
        """Append a row to the table of a stage, write the file, and print one line."""
        self.results.setdefault(stage, {}).setdefault("rows", []).append(values)
        self._write()
        self._say(stage, values)

    def rows(self, stage: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.results.get(stage, {}).get("rows", [])
        return rows

    def begin(self) -> None:
        """Write the file for the first time."""
        self._write()

    def failed(self, what: str, error: BaseException) -> None:
        """Store the reason of a failure in one line, and its traceback in `logs/`."""
        first = (str(error).splitlines() or [""])[0][:300]
        name = "".join(c if c.isalnum() else "-" for c in what)
        (self.logs / f"failed-{name}.txt").write_text("".join(traceback.format_exception(error)))
        self.note("failed", **{what: f"{type(error).__name__}: {first}"})

    def attempt(self, what: str, part: Callable[[], None]) -> bool:
        """Run one part; a failure or a lack of time is noted and returns False."""
        try:
            part()
        except OutOfTime as late:
            self.note("skipped", **{what: str(late)})
            return False
        except Exception as error:  # noqa: BLE001 (one part that fails stops no other)
            self.failed(what, error)
            return False
        return True

    def stage(self, name: str, limit: float, run: Callable[[Pack], None]) -> None:
        """Run a stage for at most `limit` seconds."""
        self.stage_deadline = min(self.deadline, time.monotonic() + limit)
        began = time.monotonic()
        if not self.is_tiny and self.left < 5:
            self.note("skipped", **{name: f"{self.left:.0f} s left"})
            return
        reset_process(self.device)
        if self.is_cuda:  # results of several calls are put together on one page
            self.results["run"] |= {"card": torch.cuda.get_device_name(0), "torch": torch.__version__}
        self.attempt(name, lambda: run(self))
        self.note("stages", **{name: round(time.monotonic() - began, 1)})
        self.note("memory", **{f"{name}, GiB in use on the host": round(psutil.virtual_memory().used / 2**30, 1)})

    def _say(self, stage: str, values: dict[str, Any]) -> None:
        parts = ", ".join(f"{key} {_short(value)}" for key, value in values.items() if value not in (None, ""))
        line = f"[{time.monotonic() - self.began:4.0f} s] {stage}: {parts}"
        print(line, flush=True)

    def _write(self) -> None:
        self.results["run"]["seconds"] = round(time.monotonic() - self.began, 1)
        target = self.out / "gpu.json"
        partial = self.out / ".gpu.json.partial"
        partial.write_text(json.dumps(self.results, indent=1, default=str) + "\n")
        partial.replace(target)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, list):
        return "/".join(_short(each) for each in value)
    return str(value)


def reset_process(device: torch.device) -> None:
    """Set the flags of torch that a worker of the lab runs with."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    prepare_process(Execution(device=device.type, threads=threads, precision="auto"))

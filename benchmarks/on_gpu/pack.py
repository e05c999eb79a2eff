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

import torch
from side_by_side.machine import cores

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
        self.deadline = self.stage_deadline = self.began + options.seconds
        self.is_tiny, self.is_cuda = bool(options.tiny), self.device.type == "cuda"
        self.results: dict[str, Any] = {
            "schema": SCHEMA,
            "run": {
                "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "tiny": options.tiny, "device": options.device,
                "data": Path(options.data).name, "commit": os.environ.get("CIFAR_LAB_COMMIT", ""),
                "command": " ".join(command),
            },
        }  # fmt: skip
        if is_later:
            self.reload()

    def reload(self) -> None:
        """Take over what another process wrote."""
        if (self.out / "gpu.json").exists():
            self.results = json.loads((self.out / "gpu.json").read_text())

    def size(self, full: Any, tiny: Any) -> Any:
        """Return `full`, or `tiny` where a run only has to take every path."""
        return tiny if self.is_tiny else full

    @property
    def widths(self) -> tuple[int, ...]:
        return self.size((64, 16), (8,))

    @property
    def left(self) -> float:
        """Seconds until the running stage, or the whole call, must end."""
        return min(self.stage_deadline, self.deadline) - time.monotonic()

    def needs(self, seconds: float, what: str) -> None:
        """Raise OutOfTime if fewer than `seconds` are left for `what`; a tiny run needs none."""
        if not self.is_tiny and self.left < seconds:
            raise OutOfTime(f"{what}: {self.left:.0f} s left, {seconds:.0f} s needed")

    def note(self, stage: str, **values: Any) -> None:
        """Store values of a stage by name, write the file, and print one line."""
        self.results.setdefault(stage, {}).update(values)
        self._say(stage, values)

    def row(self, stage: str, **values: Any) -> None:
        """Append a row to the table of a stage, write the file, and print one line."""
        self.results.setdefault(stage, {}).setdefault("rows", []).append(values)
        self._say(stage, values)

    def check(self, check: str, passed: bool | None, detail: str) -> None:
        """Store the verdict of a check; None where only a GPU could tell."""
        self.row("correctness", check=check, passed=passed, detail=detail)

    def rows(self, stage: str) -> list[dict[str, Any]]:
        return self.results.get(stage, {}).get("rows", [])

    def attempt(self, what: str, part: Callable[..., object], *arguments: Any) -> bool:
        """Run one part; a failure or a lack of time is noted and returns False."""
        try:
            part(*arguments)
        except OutOfTime as late:
            self.note("skipped", **{what: str(late)})
            return False
        except Exception as error:  # noqa: BLE001 (one part that fails stops no other)
            first = (str(error).splitlines() or [""])[0][:300]
            name = "".join(c if c.isalnum() else "-" for c in what)
            (self.logs / f"failed-{name}.txt").write_text("".join(traceback.format_exception(error)))
            self.note("failed", **{what: f"{type(error).__name__}: {first}"})
            return False
        return True

    def stage(self, name: str, limit: float, run: Callable[[Pack], None]) -> None:
        """Run a stage for at most `limit` seconds."""
        began = time.monotonic()
        self.stage_deadline = min(self.deadline, began + limit)
        reset_process(self.device)
        if self.is_cuda:  # results of several calls are put together on one page
            self.results["run"] |= {"card": torch.cuda.get_device_name(0), "torch": torch.__version__}
        self.attempt(name, run, self)
        self.note("stages", **{name: round(time.monotonic() - began, 1)})

    def _say(self, stage: str, values: dict[str, Any]) -> None:
        self.write()
        parts = ", ".join(f"{key} {_short(value)}" for key, value in values.items() if value not in (None, ""))
        print(f"[{time.monotonic() - self.began:4.0f} s] {stage}: {parts}", flush=True)

    def write(self) -> None:
        self.results["run"]["seconds"] = round(time.monotonic() - self.began, 1)
        partial = self.out / ".gpu.json.partial"
        partial.write_text(json.dumps(self.results, indent=1, default=str) + "\n")
        partial.replace(self.out / "gpu.json")


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_short, value))
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def reset_process(device: torch.device) -> None:
    """Set the flags of torch that a worker of the lab runs with."""
    prepare_process(Execution(device=device.type, threads=cores(), precision="auto"))

"""Measure the seconds that a worker of the local engine takes to start.

Twice: from the engine's taking a cell to the end of a worker that finds it finished, which is the process alone, its
start, its lock and its end; and to the first step of a cell, with its images loaded and its network built. The first
worker of all waits for the fork server to load torch; it is named by itself.

A worker runs the file that the program began with once more (there it has another name than `__main__`). That of the
lab's command line is light, and so this one imports where it is needed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifar_lab.execution.engine import Engine
    from cifar_lab.execution.worker import CellJob


class HandedOut:
    """Source of jobs for the engine, whatever their records contain, and its listener."""

    def __init__(self, jobs: Sequence[CellJob]) -> None:
        self._waiting = list(jobs)
        self.taken: dict[str, float] = {}
        self.over: dict[str, float] = {}
        self.engine: Engine | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, running: set[str]) -> CellJob:  # noqa: ARG002 (a Source)
        job = self._waiting.pop(0)
        self.taken[job.fingerprint] = time.time()
        return job

    def put_back(self, job: CellJob) -> None:
        raise AssertionError(f"somebody else trains {job.fingerprint}")

    def started(self, job: CellJob) -> None: ...

    def progress(self, job: CellJob, epoch: int, step: int, steps: int) -> None:  # noqa: ARG002 (a Listener)
        assert self.engine is not None
        self.engine.stop(job.fingerprint)  # its first step is all that is wanted of it

    def ended(self, job: CellJob, error: str | None) -> None:  # noqa: ARG002 (a Listener)
        self.over[job.fingerprint] = time.time()

    def put_off(self, job: CellJob) -> None: ...
    def tick(self, waiting: int) -> None: ...


def jobs_in(runs: Path, source: str, count: int) -> list[CellJob]:
    """Return cells of one small recipe, with as many seeds."""
    from cifar_lab.ablation import registry
    from cifar_lab.config import scale
    from cifar_lab.data import load
    from cifar_lab.execution.plan import make_plan
    from cifar_lab.execution.runner import job_of
    from cifar_lab.execution.settings import choose_execution

    dataset = load(source)
    plan = make_plan(
        registry.discover().find("se_ratio"), scale=scale.find_scale("small"), source=source, dataset=dataset,
        runs=runs,
        variants=["r16"], seeds=tuple(range(count)),
    )  # fmt: skip
    execution, _ = choose_execution("cpu", "1", cells=1)
    return [job_of(cell, plan, runs, execution) for cell in plan.cells]


def main() -> None:
    from records import write_finished
    from sized import arguments
    from stopwatch import say

    from cifar_lab.data import load
    from cifar_lab.execution.engine import LOCAL, make_engine

    parser = arguments(__doc__, steady=False)
    parser.add_argument("--workers", type=int, default=5, help="of each kind, one after another")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        jobs = jobs_in(Path(folder), asked.data, 2 * asked.workers + 1)
        finished, fresh = jobs[: asked.workers + 1], jobs[asked.workers + 1 :]
        dataset = load(asked.data)
        for job in finished:
            write_finished(job, dataset, accuracy=0.9)
        source = HandedOut(jobs)
        source.engine = make_engine(LOCAL, workers=1)
        source.engine.run(source, source)
        alone = [source.over[job.fingerprint] - source.taken[job.fingerprint] for job in finished]
        begun = [_began(job) - source.taken[job.fingerprint] for job in fresh]
    say({"first": alone[0], "process": statistics.median(alone[1:]), "first_step": statistics.median(begun)})


def _began(job: CellJob) -> float:
    """Return the time at which the cell was ready for its first step, in seconds."""
    from cifar_lab.store.journal import read_events

    return float(next(event["time"] for event in read_events(job.record.folder) if event["event"] == "start")) / 1000


if __name__ == "__main__":
    main()

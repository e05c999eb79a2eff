"""The cells that are not begun yet: which of them can be, and which will never be."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_lab.run.cell import Job
from cifar_lab.tracking.record import Record, remedy


@dataclass(frozen=True)
class Settled:
    """A cell that came to an end without this engine; `error` is one line when it has no result."""

    job: Job
    error: str | None


class Queue:
    """Jobs in their order, held back while another runner trains them or a cell that they continue is not finished.

    Runners share one ablation by its records alone: what one of them trains the others wait for, and whoever comes
    first takes over what a runner that died has left.
    """

    def __init__(self, jobs: list[Job]) -> None:
        self._waiting = list(jobs)
        self._failed_before = {job.fingerprint: _failure_time(job.record) for job in jobs}

    def __len__(self) -> int:
        return len(self._waiting)

    def put_back(self, job: Job) -> None:
        """Another runner was quicker to take `job`."""
        self._waiting.insert(0, job)

    def take(self, running: set[str]) -> Job | Settled | None:
        """The first job that can begin, or that will not begin here any more; None while all must wait.

        `running`: fingerprints of the cells that this engine trains now.
        """
        ours = running | {job.fingerprint for job in self._waiting}
        for i, job in enumerate(self._waiting):
            found = self._look(job, ours)
            if found is not None:
                del self._waiting[i]
                return found
        return None

    def _look(self, job: Job, ours: set[str]) -> Job | Settled | None:
        record = job.record
        state = record.state()
        if state in {"finished", "diverged"}:
            return Settled(job, None)
        if state == "damaged":
            return Settled(job, f"not begun: {record.damage()}; {remedy(job.fingerprint)}")
        if state == "running":
            return None
        failure = record.failure()
        if failure is not None and failure["time"] != self._failed_before[job.fingerprint]:
            return Settled(job, f"failed in another runner: {failure['error']}")
        if job.recipe.init_from is None:
            return job
        return _look_at_parent(job, Record(job.runs / job.recipe.init_from), ours)


def _look_at_parent(job: Job, parent: Record, ours: set[str]) -> Job | Settled | None:
    state = parent.state()
    if state == "finished":
        return job
    if state == "running" or (parent.fingerprint in ours and state != "diverged"):
        return None
    words = {"missing": "is not trained", "damaged": "is damaged"}.get(state, state)
    return Settled(job, f"not begun: cell {parent.fingerprint[:12]}, which it continues, {words}")


def _failure_time(record: Record) -> int | None:
    failure = record.failure()
    return failure["time"] if failure is not None else None

"""Queue of the cells that are not begun: which can begin now, and which never will."""

from __future__ import annotations

from cifar_lab.execution.engine import SettledCell
from cifar_lab.execution.worker import CellJob
from cifar_lab.store.cell_record import ENDED, CellRecord, advice_on_damage
from cifar_lab.store.mirror import REFRESH, refresh_runs


class Scheduler:
    """Jobs in order, held back while another runner trains them, or while a cell that they need is not finished.

    Runners share one ablation only through its records: cells that one of them trains are awaited by the others, and
    the first to come takes over the cells of a runner that died.
    """

    def __init__(self, jobs: list[CellJob]) -> None:
        self._waiting = list(jobs)
        self._names = {job.fingerprint for job in jobs}
        """Fingerprints of the waiting jobs."""
        self._runs = {job.runs for job in jobs}
        self._failed_before = {job.fingerprint: _failure_time(job.record) for job in jobs}

    def __len__(self) -> int:
        return len(self._waiting)

    def put_back(self, job: CellJob) -> None:
        """Return `job` to the queue, because another runner took it first."""
        self._waiting.insert(0, job)
        self._names.add(job.fingerprint)

    def take(self, running: set[str]) -> CellJob | SettledCell | None:
        """Return the first job that can begin, or that will not begin here any more; None while all must wait.

        `running`: fingerprints of the cells that this engine trains now.
        """
        for runs in self._runs if self._waiting else ():
            refresh_runs(runs, every=REFRESH)
        for i, job in enumerate(self._waiting):
            found = self._look(job, running)
            if found is not None:
                del self._waiting[i]
                self._names.discard(job.fingerprint)
                return found
        return None

    def _look(self, job: CellJob, running: set[str]) -> CellJob | SettledCell | None:
        record = job.record
        state = record.state()
        if state in ENDED:
            return SettledCell(job, None)
        if state == "damaged":
            return SettledCell(job, f"not begun: {record.damage()}; {advice_on_damage(job.fingerprint)}")
        if state == "running":
            return None
        failure = record.failure()
        if failure is not None and failure.time != self._failed_before[job.fingerprint]:
            return SettledCell(job, f"failed in another runner: {failure.error}")
        looks = [
            _look_at_parent(job, CellRecord(job.runs / parent), is_ours=parent in running or parent in self._names)
            for parent in job.recipe.parents
        ]
        never = next((look for look in looks if isinstance(look, SettledCell)), None)
        return never or (None if None in looks else job)


class TaskShare(Scheduler):
    """Scheduler of one task among several that share the jobs: it begins a limited number of them, and never waits.

    Jobs that continue another cell of the jobs, or learn from one, do not count. It is empty once nothing can begin and
    nothing runs here: what other tasks train is theirs, together with what needs it.
    """

    def __init__(self, jobs: list[CellJob], limit: int) -> None:
        """Offer `limit` of `jobs`."""
        super().__init__(jobs)
        self._here, self._left, self._is_over = {job.fingerprint for job in jobs}, limit, False

    def __len__(self) -> int:
        return 0 if self._is_over else super().__len__()

    def put_back(self, job: CellJob) -> None:
        """Return `job` to the queue, because another task took it first."""
        super().put_back(job)
        self._left += not self._continues(job)

    def take(self, running: set[str]) -> CellJob | SettledCell | None:
        """Return the next job as `Scheduler.take` does; None once the number is reached, or all others must wait."""
        taken = super().take(running)
        if isinstance(taken, CellJob):
            self._left -= not self._continues(taken)
        self._is_over = taken is None and not running
        return taken

    def _continues(self, job: CellJob) -> bool:
        return not self._here.isdisjoint(job.recipe.parents)

    def _look(self, job: CellJob, running: set[str]) -> CellJob | SettledCell | None:
        found = super()._look(job, running)
        return None if isinstance(found, CellJob) and not self._left and not self._continues(job) else found


def _look_at_parent(job: CellJob, parent: CellRecord, *, is_ours: bool) -> CellJob | SettledCell | None:
    state = parent.state()
    if state == "finished":
        return job
    if state == "running" or (is_ours and state != "diverged"):
        return None
    verb = "continues" if parent.fingerprint == job.recipe.init_from else "learns from"
    words = {"missing": "is not trained", "damaged": "is damaged"}.get(state, state)
    return SettledCell(job, f"not begun: cell {parent.fingerprint[:12]}, which it {verb}, {words}")


def _failure_time(record: CellRecord) -> int | None:
    failure = record.failure()
    return failure.time if failure is not None else None

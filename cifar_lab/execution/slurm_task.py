"""Submission of a plan to Slurm, and the part of it that one task trains on its own node."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cifar_lab.config.scale import find_scale
from cifar_lab.errors import CellError, Interrupted, TrackingError
from cifar_lab.execution import slurm
from cifar_lab.execution.complete import with_compiling
from cifar_lab.execution.engine import Listener
from cifar_lab.execution.plan import Plan, PlannedCell
from cifar_lab.execution.request import Request, RequestArguments
from cifar_lab.execution.runner import find_prior, invocation_of, job_of, train_jobs
from cifar_lab.execution.scheduler import TaskShare
from cifar_lab.execution.settings import choose_execution
from cifar_lab.store.cell_record import ENDED, CellRecord
from cifar_lab.store.invocation import RecordedCommand
from cifar_lab.store.stored_json import write_stored
from cifar_lab.store.submission import FILE, Submission, SubmittedRequest, read_submissions, submission_folder

PROGRAM = (sys.executable, "-m", "cifar_lab")
TASK_COMMAND = "slurm-task"
"""Hidden command that a task runs."""
SUMMARY = "summary.log"


class SubmittedJob(NamedTuple):
    """A submission that Slurm has taken."""

    job: str
    plan: slurm.TaskPlan
    folder: Path
    cells: int
    following: str
    """Number of the job that compares and reports afterwards."""


class TaskOutcome(NamedTuple):
    """Outcome of one task."""

    trained: int
    failed: int
    """Cells of the submission that have failed since it began."""
    interrupted: Interrupted | None


def awaited(runs: Path) -> dict[str, slurm.QueuedTask]:
    """Return the task that is to train each cell of a submission that has not ended, by fingerprint.

    Raises:
        TrackingError: Slurm does not answer.
    """
    submissions = list(read_submissions(runs))
    return slurm.tasks_of_cells(submissions, slurm.queued([each.job for each in submissions]))


def submit_plan(
    plan: Plan, cells: Sequence[PlannedCell], request: SubmittedRequest, *, runs: Path, options: slurm.SlurmOptions,
    command: RecordedCommand, offline: bool,
) -> SubmittedJob:  # fmt: skip
    """Record the invocation of `plan`, and submit `cells`, at least one, as an array job with a job that follows it.

    Raises:
        UsageError: Slurm refuses one of the jobs; neither is submitted, and nothing is left behind.
        TrackingError: the runs folder cannot be written, or Slurm does not answer; likewise.
    """
    invocation = invocation_of(plan, None, command, prior=find_prior(plan, runs)).after_all(runs)
    divided = slurm.divide(cells, plan.estimates, options)
    folder = submission_folder(runs, invocation.id)
    submission = Submission(
        request=request, runs=str(runs), fingerprints=tuple(cell.fingerprint for cell in cells),
        cells_per_task=divided.cells_per_task, tasks=divided.tasks, time=time.time_ns() // 1_000_000,
        shares=_shares(cells, divided),
    )  # fmt: skip
    name = f"cifar-lab-{plan.ablation.name}"
    array, following = folder / "cells.sbatch", folder / "summary.sbatch"
    afterwards = _afterwards(plan.ablation.name, invocation.id, request, runs, folder, offline=offline)
    with _writing(runs), ExitStack() as undo:
        folder.mkdir(parents=True)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        array.write_text(slurm.array_script([*PROGRAM, TASK_COMMAND, str(folder)], name, divided, options))
        following.write_text(slurm.following_script(afterwards, f"{name}-summary", options))
        write_stored(folder / FILE, submission)
        job = slurm.submit(array, "task-%a.log")
        undo.callback(slurm.cancel, job)
        write_stored(folder / FILE, submission.model_copy(update={"job": job}))
        after = slurm.submit(following, SUMMARY, after=job)
        undo.callback(slurm.cancel, after)
        invocation.write(runs)
        undo.pop_all()
    return SubmittedJob(job, divided, folder, len(cells), after)


def _shares(cells: Sequence[PlannedCell], divided: slurm.TaskPlan) -> tuple[tuple[str, ...], ...]:
    """Return the fingerprints of the cells that each task takes first."""
    groups, each = slurm.families(cells), divided.cells_per_task
    shares = [groups[start : start + each] for start in range(0, len(groups), each)]
    return tuple(tuple(cell.fingerprint for group in share for cell in group) for share in shares)


def _afterwards(
    ablation: str, invocation: str, request: SubmittedRequest, runs: Path, folder: Path, *, offline: bool
) -> list[list[str]]:
    """Return the commands of the job that follows: upload, compare, report."""
    own = [word for each in request.folders for word in ("--ablations", each)]
    common = ["--runs", str(runs), *own]
    commands = [] if offline else [[*PROGRAM, "sync", *common]]
    one = [ablation, "--invocation", invocation, *common]
    page = str(folder / "report.html")
    return [*commands, [*PROGRAM, "compare", *one], [*PROGRAM, "report", *one, "-o", page]]


@contextmanager
def _writing(runs: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrackingError(f"runs folder {runs}: cannot be written ({error.strerror or error})") from error


def arguments_of(request: SubmittedRequest) -> RequestArguments:
    """Return the arguments of a request, as a command line would have them."""
    return RequestArguments(
        scale=find_scale(request.scale),
        overrides=dict(request.overrides),
        variants=list(request.variants) if request.variants is not None else None,
        seeds=request.seeds,
        max_params=request.max_params,
        device=request.device,
        workers=request.workers,
        cells_per_gpu=request.cells_per_gpu,
    )


def train_task(
    submission: Submission, resolved: Request, *, open_listener: Callable[[Request], AbstractContextManager[Listener]],
    say: Callable[[str], None],
) -> TaskOutcome:  # fmt: skip
    """Train this task's share of a submission, from the request as resolved on this node.

    Raises:
        CellError: the ablation is not the one that was submitted.
    """
    runs, plan = Path(submission.runs), resolved.plan
    wanted = set(submission.fingerprints)
    if gone := wanted - {cell.fingerprint for cell in plan.cells}:
        raise CellError(
            f"{submission.request.ablation} changed since it was submitted: {min(gone)[:12]} is no cell of it any more"
        )
    cells = [cell for cell in _own_first(plan.cells, submission) if _is_to_train(cell, submission, runs)]
    request = submission.request
    execution, count = choose_execution(
        request.device, request.workers, min(len(wanted), submission.cells_per_task),
        compile=bool(request.compile), graph=request.graph, cells_per_gpu=resolved.cells_per_gpu,
    )  # fmt: skip
    resolved = resolved._replace(execution=execution, workers=count, plan=replace(plan, cells=tuple(cells)))
    if cells:
        resolved, _ = with_compiling(resolved, runs, say)
    jobs = [job_of(cell, plan, runs, resolved.execution) for cell in cells]
    with open_listener(resolved) as listener:
        trained, interrupted = train_jobs(
            TaskShare(jobs, submission.cells_per_task), listener, execution=resolved.execution, workers=count,
            places=resolved.places, patience=request.patience, say=say,
        )  # fmt: skip
    failed = sum(CellRecord(runs / job.fingerprint).state() == "failed" for job in jobs)
    return TaskOutcome(trained, failed, interrupted)


def _own_first(cells: Sequence[PlannedCell], submission: Submission) -> list[PlannedCell]:
    """Return the cells of a submission, those of this task's share first, so that one queued again takes up its own."""
    wanted = set(submission.fingerprints)
    once = {cell.fingerprint: cell for cell in cells if cell.fingerprint in wanted}
    task = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    share = set(submission.shares[task]) if task < len(submission.shares) else set()
    return sorted(once.values(), key=lambda cell: cell.fingerprint not in share)


def _is_to_train(cell: PlannedCell, submission: Submission, runs: Path) -> bool:
    """Tell whether a cell is neither ended nor damaged, and did not fail since the submission."""
    content = CellRecord(runs / cell.fingerprint).read()
    if content.state in ENDED or content.state == "damaged":
        return False
    return content.failure is None or content.failure.time < submission.time

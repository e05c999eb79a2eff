"""Execute a plan: record the invocation, train the missing cells, have results uploaded meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config.execution import THEN, Execution
from cifar_lab.config.scale import baseline_identity
from cifar_lab.errors import Interrupted, TrackingError
from cifar_lab.execution.engine import LOCAL, JobSource, Listener, make_engine
from cifar_lab.execution.plan import Plan, PlannedCell
from cifar_lab.execution.provenance import code_diff, provenance, warning
from cifar_lab.execution.scheduler import Scheduler
from cifar_lab.execution.upload import Upload
from cifar_lab.execution.worker import CellJob
from cifar_lab.results.control_history import control_prior
from cifar_lab.results.declaration import declared_fields
from cifar_lab.results.final_metrics import headline_metric
from cifar_lab.store.invocation import (
    MODERATED,
    STUDENT,
    CellRef,
    Invocation,
    RecordedCommand,
    StoppingRule,
    VariancePrior,
)
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.mirror import mirror_of, refresh_runs
from cifar_lab.store.record_files import DataSource, StoredExecution


@dataclass(frozen=True)
class RunReport:
    """Outcome of a run: numbers of cells trained and reused, and the interruption that ended it, if any."""

    trained: int
    reused: int
    interrupted: Interrupted | None
    invocation: str
    """Id of the invocation, for `compare`."""


def invocation_of(
    plan: Plan, execution: Execution | None, command: RecordedCommand, stopping: StoppingRule | None = None,
    compiling: str = "", prior: VariancePrior | None = None,
) -> Invocation:  # fmt: skip
    """Create the note of an invocation of `plan`; `command`: the one that asked for it."""
    ablation = plan.ablation
    now = datetime.now(UTC)
    return Invocation(
        id=f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}-{ablation.name}",
        ablation=ablation.name,
        question=describe_ablation(ablation),
        factors=ablation.factors,
        scale=plan.scale.name,
        protocol=plan.protocol,
        data=DataSource(name=plan.dataset.name, kind=plan.dataset.kind, hash=plan.dataset.hash, source=plan.source),
        overrides=dict(plan.overrides),
        cells=tuple(asked_of(cell) for cell in plan.cells),
        command=command.typed,
        again=command.again,
        retry=command.retry,
        execution=StoredExecution.of(execution) if execution is not None else None,
        compiling=compiling,
        provenance=provenance(),
        baseline=baseline_identity(ablation.baseline, plan.scale),
        stopping=stopping,
        design=MODERATED if stopping is None or stopping.critical else STUDENT,
        effects_design=MODERATED if ablation.crossing() is not None and stopping is None else None,
        prior=prior,
        **declared_fields(ablation, plan.scale.name)._asdict(),
        labels=dict(command.labels),
        note=command.note,
    )


def find_prior(plan: Plan, runs: Path) -> VariancePrior | None:
    """Return the variance prior of a setting that begins with `plan`, if it compares one variant with the control.

    None for a setting that was begun before: a prior is fixed before the first cell.
    """
    variants = {cell.variant: cell.lineage for cell in plan.cells}
    compared = [(name, other) for name in variants if (other := plan.ablation.compared_with(name)) is not None]
    if len(compared) != 1 or (control := variants.get(compared[0][1])) is None:
        return None
    key = invocation_of(plan, None, RecordedCommand(typed="")).key
    if read_index(runs).with_key(key):
        return None
    return control_prior(key, control, headline_metric(plan.protocol), runs)


def describe_ablation(ablation: Ablation) -> str:
    """Return question, source and claims of an ablation, one per line."""
    claims = [f'Claim: "{claim.quote}" ({claim.source})' for claim in ablation.claims]
    return "\n".join([ablation.question, f"Source: {ablation.source}", *claims])


def carry_out(
    plan: Plan, *, runs: Path, execution: Execution, workers: int, command: RecordedCommand, listener: Listener,
    upload: Upload, say: Callable[[str], None], places: Sequence[str] = (), retry_failed: bool = False,
    stopping: StoppingRule | None = None, compiling: str = "", patience: float | None = None, until: float = math.inf,
    engine: str = LOCAL,
) -> RunReport:  # fmt: skip
    """Train the missing cells of `plan` (and with `retry_failed` the failed ones); `upload` has them meanwhile.

    `command`: the one that asked for it, for the record.
    `places`: the GPUs that cells are trained on, `cuda:0`; without any, torch's current one.
    `compiling`: reason for compiling the networks or not, if that was decided here.
    `patience`: minimum seconds without progress before a worker counts as stuck; None: from the environment.
    `until`: time on the monotonic clock at which running cells save and stop.
    `engine`: one of `engine.ENGINES`.

    Raises:
        TrackingError: the note of the invocation cannot be written.
    """
    jobs = [job_of(cell, plan, runs, execution) for cell in plan.to_train(retry_failed=retry_failed)]
    for line in filter(None, map(goes_on_elsewhere, jobs)):
        say(line)
    if jobs and (reason := warning()):
        say(reason)
    prior = find_prior(plan, runs) if stopping is None else None
    invocation = invocation_of(plan, execution, command, stopping, compiling, prior).after_all(runs)
    try:
        invocation.write(runs)
    except OSError as error:
        raise TrackingError(f"runs folder {runs}: cannot be written ({error.strerror or error})") from error
    upload.update(invocation, trains=bool(jobs))
    trained, interrupted = train_jobs(
        Scheduler(jobs), _Uploading(listener, upload), execution=execution, workers=workers, places=places,
        patience=patience, until=until, say=say, engine=engine,
    )  # fmt: skip
    upload.finish()
    refresh_runs(runs)
    return RunReport(
        trained=trained,
        reused=sum(cell.is_done for cell in plan.cells),
        interrupted=interrupted,
        invocation=invocation.id,
    )


def train_jobs(
    source: JobSource, listener: Listener, *, execution: Execution, workers: int, places: Sequence[str],
    patience: float | None, until: float = math.inf, say: Callable[[str], None], engine: str = LOCAL,
) -> tuple[int, Interrupted | None]:  # fmt: skip
    """Train the cells of `source`; return how many were, and the interruption that ended it, if any.

    The arguments are those of `carry_out`.
    """
    if not len(source):
        return 0, None
    on = places if execution.device == "cuda" else ()
    trainer = make_engine(engine, min(workers, len(source)), on, patience=patience, until=until, say=say)
    try:
        trainer.run(source, listener)
    except Interrupted as error:
        return trainer.trained, error
    return trainer.trained, None


class _Uploading:
    """Listener that tells an upload which cells this runner trains, and forwards all events to another listener."""

    def __init__(self, listener: Listener, upload: Upload) -> None:
        self._upload = upload
        self.progress, self.ended, self.put_off = listener.progress, listener.ended, listener.put_off
        self.tick, self._started = listener.tick, listener.started

    def started(self, job: CellJob) -> None:
        self._upload.started(job.fingerprint)
        self._started(job)


def goes_on_elsewhere(job: CellJob) -> str | None:
    """Return one line for a cell that would resume on another GPU model than before; None for others."""
    here = job.provenance.hardware.gpus
    cell = job.record.cell() if job.record.has_checkpoint else None
    before = cell.execution.gpu if cell is not None else None
    if before is None or not here or before.split(THEN)[-1] in here:
        return None
    return (
        f"{job.fingerprint[:12]} was begun on {before} and goes on upon {' or '.join(dict.fromkeys(here))}: its digits "
        "may differ, and its row is marked as mixed"
    )


def job_of(cell: PlannedCell, plan: Plan, runs: Path, execution: Execution) -> CellJob:
    """Return the job that a worker needs to train a cell of `plan`."""
    return CellJob(
        fingerprint=cell.fingerprint,
        recipe=cell.recipe,
        seed=cell.seed,
        data=plan.source,
        data_hash=plan.dataset.hash,
        runs=runs,
        execution=execution,
        provenance=provenance(),
        code_diff=code_diff(),
        store=mirror.address if (mirror := mirror_of(runs)) is not None else "",
    )


def asked_of(cell: PlannedCell) -> CellRef:
    """Return the entry of a cell in an invocation's note."""
    return CellRef(
        variant=cell.variant,
        seed=cell.seed,
        fingerprint=cell.fingerprint,
        recipe=cell.lineage,
        parameters=cell.declared_cost.parameters,
        parameters_trained=cell.cost.parameters,
        macs=cell.cost.macs,
        passes=cell.recipe.passes,
        teachers=cell.recipe.teachers,
        teacher_macs=cell.teacher_macs,
    )

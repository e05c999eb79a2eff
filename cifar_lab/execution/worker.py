"""Train one cell: what a worker process does, from taking its lock to writing its result."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout

from cifar_lab.config.execution import THEN, Execution
from cifar_lab.config.recipe import NUMERICS, Recipe
from cifar_lab.data import load
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.errors import CellError, DamageError, Interrupted, described, first_line
from cifar_lab.execution.device import is_there
from cifar_lab.execution.out_of_memory import advice, is_out_of_memory
from cifar_lab.execution.settings import compiled, prepare_process, resolved
from cifar_lab.execution.system_metrics import peaks, system_metrics
from cifar_lab.execution.trained_weights import load_teachers, warm_start
from cifar_lab.models.cost import network_cost
from cifar_lab.models.registry import build_network
from cifar_lab.out_of_space import is_out_of_space
from cifar_lab.results.final_metrics import PEAK, final_metrics
from cifar_lab.store.cell_hold import CellHold
from cifar_lab.store.cell_record import CellRecord, advice_on_damage
from cifar_lab.store.journal import Journal, read_points
from cifar_lab.store.lease import LeaseLost
from cifar_lab.store.record_files import (
    CellFile,
    DataIdentity,
    FailureFile,
    Provenance,
    ResultFile,
    StoredExecution,
    StoredRecipe,
)
from cifar_lab.train import cell_artifacts, checkpoint, resume
from cifar_lab.train.evaluate import evaluate_network
from cifar_lab.train.loop import TrainingOutcome, fit
from cifar_lab.train.metrics import measure_metrics
from cifar_lab.train.trainer import Trainer
from cifar_lab.train.whiten import whiten

LOCK_PATIENCE = 1.0
"""Seconds to wait for a cell's lock: another process may hold it briefly to check it."""


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """Specification of one cell to be trained; it is pickled and sent to a worker process."""

    fingerprint: str
    recipe: Recipe
    seed: int
    data: str
    """The source as typed: `synthetic`, `cifar10`, `cifar100`, or a path."""
    data_hash: str
    runs: Path
    execution: Execution
    provenance: Provenance
    """Provenance of the runner: the code that is loaded, which the checkout may no longer hold when a cell begins."""
    code_diff: str = ""
    place: str = ""
    """Device index if there are several of a kind, such as `cuda:1`. It is no part of the execution settings."""
    sharing: int = 1
    """Number of cells that this runner trains on that device at the same time, including this one."""
    store: str = ""
    """Address of the object store that `runs` is a copy of; empty for any other folder."""

    @property
    def record(self) -> CellRecord:
        return CellRecord(self.runs / self.fingerprint)


@dataclass(frozen=True)
class _Scribe:
    """Writer of the training loop's events to the journal; also reports progress and checks for stop requests."""

    record: CellRecord
    journal: Journal
    progress: Callable[[int, int, int], None]
    stop: Callable[[], bool]
    device: str
    hold: CellHold

    def step(self, epoch: int, step: int, steps: int) -> None:
        self.progress(epoch, step, steps)

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        self.hold.require_held()
        self.journal.points(epoch, {**values, **peaks(self.device), **system_metrics(self.device)})

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        self.hold.require_held()
        checkpoint.save(self.record.checkpoint, state, self.record.fingerprint)
        self.hold.save()  # as here: the points, then the checkpoint, then the line that confirms them
        self.journal.write("checkpoint", epoch=epoch, step=step)
        self.hold.save()

    def wants_to_stop(self) -> bool:
        return self.stop() or self.hold.is_lost


def train_cell(
    job: CellJob, progress: Callable[[int, int, int], None] = lambda *_: None, stop: Callable[[], bool] = lambda: False
) -> bool:
    """Train `job` from its record's state and write its result; return False if the cell is already finished.

    Raises:
        Interrupted: `stop` returned True; the state is saved.
        CellError: the cell cannot be trained; `failure.json` holds the traceback, as for any other error.
        LeaseLost: another process took the cell, as this one was cut off from its disk or object store for long.
        OSError: the disk is full; this does not count as a failure of the cell, and `failure.json` is not written.
    """
    record = job.record
    _require_room(record)
    try:
        with record.owned(patience=LOCK_PATIENCE) as hold:
            if record.result() is not None:
                return False
            try:
                _train_locked(job, record, hold, progress, stop)
            except (Interrupted, KeyboardInterrupt, LeaseLost):
                raise
            except BaseException as error:
                if is_out_of_space(error, record.folder):
                    raise  # not a failure of the cell: it resumes from its last checkpoint once there is room
                if is_out_of_memory(error):
                    short = CellError(advice(error, job.recipe, _device(job), job.sharing, graph=job.execution.graph))
                    short.__cause__ = error  # set before raising, so that the recorded traceback shows it
                    _write_failure(record, short, out_of_memory=True)
                    raise short from error
                _write_failure(record, error)
                if isinstance(error, SystemExit):  # its code would be taken for this process's own
                    raise CellError(described(error)) from error
                raise
    except Timeout:
        raise CellError(f"{job.fingerprint[:12]}: another process is training this cell") from None
    return True


def _require_room(record: CellRecord) -> None:
    """Check that nothing but files stands where the cell is to write files: a pipe would be waited for without end.

    Raises:
        CellError: something else does.
    """
    for path in record.obstacles():
        raise CellError(f"{path}: damaged: not a regular file; {advice_on_damage(record.fingerprint)}")


def _train_locked(
    job: CellJob, record: CellRecord, hold: CellHold, progress: Callable[[int, int, int], None],
    stop: Callable[[], bool],
) -> None:  # fmt: skip
    kept = _kept(job, record)
    state = resume.state_to_go_on_from(record)
    kept = kept if state is not None else None
    device = _device(job, kept or job.execution)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # tensors created without a device must not go to the first GPU
    record.clean()
    dataset = load(job.data, planned=job.data_hash)
    if dataset.hash != job.data_hash:
        raise CellError(f"data {job.data}: the images changed since the plan was made")
    _require_same_extensions(job)
    execution = _begin(job, record, dataset, kept, _model(device))
    prepare_process(execution)
    net = build_network(job.recipe.model, seed=job.seed, images=dataset.shape, device=device)
    parts = split(dataset, job.recipe.data, job.recipe.train.protocol, device)
    whiten(net, parts.train, job.recipe.data)
    if job.recipe.init_from is not None:
        warm_start(net, CellRecord(job.runs / job.recipe.init_from))
    teachers = load_teachers(job.recipe, job.runs, dataset, device)
    trainer = Trainer(
        job.recipe, job.seed, net, parts, execution.precision, teachers, graph=execution.graph  # type: ignore[arg-type]
    )  # fmt: skip
    why_eager = trainer.callbacks.why_eager if execution.compile or execution.graph else ""
    if execution.compile and not why_eager:
        trainer.forward = compiled(net)

    journal = Journal(record.folder)
    if state is None:
        journal.write("start", execution=execution.as_dict(), provenance=job.provenance.as_json())
        journal.write("resume", epoch=0, step=0)  # points of an attempt that saved no checkpoint do not count
    else:
        try:
            trainer.load_state_dict(state)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            # A checkpoint of an earlier version does not name its cell: this one belongs to another network.
            resume.begin_anew(record, **{record.checkpoint.name: f"does not fit this cell: {type(error).__name__}"})
            return _train_locked(job, record, hold, progress, stop)
        if trainer.epoch:  # the checkpoint may have come without its line
            journal.write("checkpoint", epoch=trainer.epoch, step=trainer.step)
        written = {"execution": execution.as_dict(), "provenance": job.provenance.as_json()}
        journal.write("resume", epoch=trainer.epoch, step=trainer.step, **written)

    if teachers:
        journal.write("teachers", cells=list(job.recipe.teachers), compiled=False)
    hold.save()
    system_metrics(str(device))  # the load is measured from here
    outcome = fit(trainer, _Scribe(record, journal, progress, stop, str(device), hold))
    if why := outcome.eager or why_eager:
        journal.write("eager", why=why)
    return _finish(record, hold, journal, trainer, outcome, dataset)


def _require_same_extensions(job: CellJob) -> None:
    """Check that a user's code is that of the plan, as the fingerprint names it.

    Raises:
        CellError: it has changed.
    """
    names = sorted({name for _, _, name, _ in job.recipe.extensions()})
    if names and job.recipe.fingerprint(seed=job.seed, data_hash=job.data_hash) != job.fingerprint:
        raise CellError(f"{', '.join(names)} changed since the plan was made")


def _kept(job: CellJob, record: CellRecord) -> Execution | None:
    """Return the execution of an earlier attempt that left a checkpoint, as recorded in its `cell.json`.

    Raises:
        CellError: this machine does not have its device.
    """
    before = record.cell()
    if before is None or not record.checkpoint.exists():
        return None
    kept = before.execution.settings
    if not is_there(kept.device):
        raise CellError(f"{job.fingerprint[:12]} was begun on {kept.device}, which is not here; its folder keeps it")
    return kept


def _device(job: CellJob, execution: Execution | None = None) -> torch.device:
    """Return the device of this job: its `place`, unless the cell was begun on another kind of device."""
    kind = (execution or job.execution).device
    return torch.device(job.place if job.place.startswith(kind) else kind)


def _model(device: torch.device) -> str | None:
    """Return the GPU's model name; None for another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def _begin(job: CellJob, record: CellRecord, dataset: Dataset, kept: Execution | None, gpu: str | None) -> Execution:
    """Write `cell.json`, or continue the execution of an earlier attempt on this attempt's GPU.

    A cell may resume on another GPU model: its last digits may differ, so `cell.json` names all models.
    """
    if kept is not None:
        if gpu is not None and gpu not in (models := kept.gpu.split(THEN) if kept.gpu else []):
            cell = record.cell()
            assert cell is not None, "an attempt that is continued has described its cell"
            record.write_cell(cell.executed_as(replace(kept, gpu=THEN.join([*models, gpu]))))
        return replace(kept, gpu=gpu)
    execution = replace(resolved(job.execution, job.recipe, job.place), gpu=gpu)
    counted = network_cost(job.recipe.model, dataset.shape)
    record.code_diff.unlink(missing_ok=True)
    if job.code_diff:
        record.code_diff.write_text(job.code_diff + "\n")
    record.write_cell(
        CellFile(
            fingerprint=job.fingerprint,
            seed=job.seed,
            recipe=StoredRecipe.of(job.recipe),
            data=DataIdentity(name=dataset.name, kind=dataset.kind, hash=dataset.hash),
            classes=tuple(dataset.classes),
            side=dataset.shape.side,
            parameters=counted.parameters,
            macs=counted.macs,
            numerics=NUMERICS,
            execution=StoredExecution.of(execution),
            provenance=job.provenance,
        )
    )
    return execution


def _finish(
    record: CellRecord, hold: CellHold, journal: Journal, trainer: Trainer, outcome: TrainingOutcome, dataset: Dataset
) -> None:
    """Evaluate the test images, for the first and only time, then write the artifacts and, last, the result."""
    judged = None
    recipe, test = trainer.recipe, trainer.split.test
    if outcome.status == "finished":
        judged = evaluate_network(trainer.evaluated, test, recipe.data, trainer.precision, recipe.train.tta)
        if not math.isfinite(judged.loss):  # the very last update made the loss infinite
            judged, outcome = None, TrainingOutcome("diverged", outcome.epoch, trainer.steps_per_epoch)
    hold.require_held()
    journal.write("end", status=outcome.status, epoch=outcome.epoch, step=outcome.step)
    points = _whole_curve(record, trainer.epoch)
    metrics = final_metrics(points, trainer.recipe.train.protocol)
    metrics["seconds"], metrics["images_seen"] = trainer.seconds, float(trainer.images_seen)
    if judged is not None:
        metrics |= {"test/acc": judged.accuracy, "test/loss": judged.loss}
        further = measure_metrics(recipe.train.metrics, judged)
        metrics |= {f"test/{key}": value for key, value in further.items()}
        if recipe.train.tta != "none":
            plain = evaluate_network(trainer.evaluated, test, recipe.data, trainer.precision)
            metrics["test/acc_without_tta"] = plain.accuracy
            if PEAK in metrics:  # this curve was evaluated with a single view
                metrics[PEAK] = max(metrics[PEAK], judged.accuracy)
    result = ResultFile(
        fingerprint=record.fingerprint,
        status=outcome.status,
        epoch=outcome.epoch,
        step=outcome.step,
        time=journal.now(),
        metrics=metrics,
    )
    if judged is not None:
        val = None
        if trainer.split.watched_name == "val":
            val = evaluate_network(
                trainer.evaluated, trainer.split.watched, recipe.data, trainer.precision, recipe.train.tta
            )
        cell_artifacts.write_artifacts(record, trainer.evaluated, judged, dataset.classes, result, val)
    result = result.model_copy(update={"files": record.digests()})
    hold.send_result(result)
    record.write_result(result)


def _whole_curve(record: CellRecord, epochs: int) -> list[tuple[int, dict[str, float]]]:
    """Return the metrics of every epoch; a curve with a gap would give other numbers.

    Raises:
        CellError: the journal was damaged during training; the next attempt starts from the beginning.
    """
    try:
        points = read_points(record.folder)
    except DamageError as error:
        raise CellError(str(error)) from error
    if (missing := resume.missing_epoch({point.epoch for point in points}, epochs)) is not None:
        raise CellError(f"{record.journal}: damaged: {missing}")
    return [(point.epoch, point.values) for point in points]


def _write_failure(record: CellRecord, error: BaseException, **more: bool) -> None:
    trace = "".join(traceback.format_exception(error))
    said = first_line(error) or type(error).__name__
    journal = Journal(record.folder)
    line = f"{type(error).__name__}: {said}"
    record.write_failure(FailureFile(error=line, trace=trace, time=journal.now(), **more))
    journal.write("failed", trace=trace)

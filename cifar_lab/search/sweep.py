"""Run a search: ask, train within the budget, tell, until the wanted number of trials exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import Trial

from cifar_lab.errors import Interrupted
from cifar_lab.execution.engine import LOCAL, Listener, make_engine
from cifar_lab.execution.runner import goes_on_elsewhere
from cifar_lab.execution.upload import Upload
from cifar_lab.execution.worker import CellJob
from cifar_lab.search import storage as stores
from cifar_lab.search import stored_trials
from cifar_lab.search.ask_tell import TrialQueue
from cifar_lab.search.study import StudySettings
from cifar_lab.search.trial_jobs import TrialJobs, add_remarks, dumps
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.mirror import refresh_runs


@dataclass(frozen=True)
class SweepReport:
    """Outcome of a search's run: number of cells that it trained, and the interruption that ended it, if any."""

    trained: int
    interrupted: Interrupted | None


class _Both:
    """Listener that forwards events to the search and to another listener."""

    def __init__(self, asking: TrialQueue, watcher: Listener) -> None:
        self._asking, self._watcher = asking, watcher
        self.started, self.put_off = watcher.started, watcher.put_off

    def progress(self, job: CellJob, epoch: int, step: int, steps: int) -> None:
        self._watcher.progress(job, epoch, step, steps)
        self._asking.progress(job)

    def ended(self, job: CellJob, error: str | None) -> None:
        pruned = self._asking.pruned_at(job)
        self._asking.ended(job, error)
        self._watcher.ended(job, error if pruned is None else f"pruned after epoch {pruned}")

    def tick(self, waiting: int) -> None:  # noqa: ARG002
        """Report the trials of other runners that are awaited, instead of the cells that are not begun."""
        self._watcher.tick(self._asking.waited_for)


def run_sweep(
    study: optuna.Study, setting: StudySettings, cells: TrialJobs, *, wanted: int, workers: int, watcher: Listener,
    say: Callable[[str], None], named: Callable[[CellJob, int], None], upload: Upload, places: Sequence[str] = (),
    until: float = math.inf, engine: str = LOCAL,
) -> SweepReport:  # fmt: skip
    """Run `study` until `wanted` trials are trained, answered from a finished cell, or pruned.

    `named(job, number)`: called before a cell begins, with the number of its trial. `upload` has the cells meanwhile.
    `places`: the GPUs that cells are trained on, `cuda:0`.
    `until`: time on the monotonic clock at which running cells save and stop.
    `engine`: one of `cifar_lab.execution.engine.ENGINES`.

    Raises:
        UsageError: candidates are over the budget, or trials fail, without end.
    """
    stores.be_patient(study._storage, say)
    trainer = make_engine(engine, workers, places, until=until, say=say)

    def grown(note: Invocation) -> None:
        upload.update(note, trains=True)

    def begun(trial: Trial, job: CellJob) -> None:
        named(job, trial.number)
        if line := goes_on_elsewhere(job):
            say(line)
        cells.begin(study, trial.number, job)
        upload.started(job.fingerprint)

    def told(number: int) -> None:
        trial = next(each for each in stored_trials.all_trials(study) if each.number == number)
        cells.tag(str(trial.user_attrs[stored_trials.CELL]), _tags(trial))

    cells.changed = grown
    asking = TrialQueue(
        study=study, setting=setting, wanted=wanted, make_job=cells.job, stop=trainer.stop, begun=begun, told=told
    )  # fmt: skip
    interrupted = None
    try:
        try:
            trainer.run(asking, _Both(asking, watcher))
        except Interrupted as error:
            interrupted = error
        refresh_runs(cells.runs)  # the cells that other machines trained, for the run of the study
        if (note := add_remarks(study, cells.runs, _remarks(study))) is not None:
            upload.update(note, trains=False)
    finally:
        upload.finish()
    return SweepReport(trainer.trained, interrupted)


def _remarks(study: optuna.Study) -> dict[str, str]:
    """Return the number of trials by outcome; infeasible ones have no cell, so no run of their own."""
    counts = stored_trials.count_trials(stored_trials.all_trials(study))
    kinds = ("trained", "pruned", "infeasible", "failed")
    return {f"trials_{kind}": str(getattr(counts, kind)) for kind in kinds}


def _tags(trial: optuna.trial.FrozenTrial) -> dict[str, str]:
    """Return the outcome of a trial as tags of its run."""
    tags: dict[str, Any] = {"trial_state": trial.state.name.lower(), "trial_params": dumps(trial.params)}
    for name in (stored_trials.PRUNED_AT, stored_trials.DIVERGED, stored_trials.REUSED, stored_trials.ERROR):
        if name in trial.user_attrs:
            tags[f"trial_{name}"] = trial.user_attrs[name]
    return {name: value if isinstance(value, str) else dumps(value) for name, value in tags.items()}

"""Connect Optuna with the engine: supply cells for trials, and report their results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_lab.errors import UsageError
from cifar_lab.execution.engine import SettledCell
from cifar_lab.execution.worker import CellJob
from cifar_lab.search import storage as stores
from cifar_lab.search import stored_trials
from cifar_lab.search.study import StudySettings
from cifar_lab.store.cell_record import ENDED
from cifar_lab.store.journal import JournalReader
from cifar_lab.store.mirror import REFRESH, refresh_runs
from cifar_lab.store.record_files import ResultFile

OVER_IN_A_ROW = 1000
"""Number of consecutive candidates over the budget after which the search gives up."""
FAILED_IN_A_ROW = 5
LOOK_EVERY = 5.0
"""Seconds between two checks of other runners' trials and of lost trials."""
NOTHING = 0.0
"""Value reported to Optuna for diverged trials so that samplers avoid the region; never displayed."""


@dataclass
class _Open:
    """Cell in progress, with the trials that its result will complete."""

    job: CellJob
    trials: list[Trial]
    reader: JournalReader
    pruned_at: int | None = None


@dataclass
class TrialQueue:
    """Source of cells for the engine, and listener that reports their results to the study.

    `make_job(number, diff)` returns the cell of a trial. `stop(fingerprint)` makes a cell save and stop. `begun(trial,
    job)` and `told(trial)` are called when a trial gets its cell, and when it gets its value.
    """

    study: optuna.Study
    setting: StudySettings
    wanted: int
    make_job: Callable[[int, dict[str, object]], CellJob]
    stop: Callable[[str], None]
    begun: Callable[[Trial, CellJob], None]
    told: Callable[[int], None]
    _open: dict[str, _Open] = field(default_factory=dict)
    _waiting: list[CellJob] = field(default_factory=list)
    _failures: int = 0
    _me: dict[str, Any] = field(default_factory=stored_trials.new_owner)
    _baseline: str = ""
    """Digest of the baseline's recipe; the baseline is never pruned, as all trials are compared with it."""
    _looked: float = 0.0
    _left: int = 0
    _stopped: set[int] = field(default_factory=set)
    """Numbers of the trials that were begun here and stopped: the next runner goes on from them."""
    elsewhere: int = 0
    """Number of wanted trials run by others; lost ones would have to be run here."""

    @property
    def waited_for(self) -> int:
        """Count the trials of other runners that are awaited; 0 while there is one to begin here."""
        return self.elsewhere if not (self._left or self._waiting) else 0

    def __post_init__(self) -> None:
        self._baseline = self.setting.recipe({}).digest()

    # Methods of a source of cells

    def __len__(self) -> int:
        """Return how many trials may still have to be begun here."""
        if time.monotonic() - self._looked > LOOK_EVERY:
            self._look()
        return self._left + len(self._waiting) + self.elsewhere

    def take(self, running: set[str]) -> CellJob | SettledCell | None:
        """Return the cell of the next trial; candidates over the budget are recorded as infeasible and skipped.

        Raises:
            UsageError: too many candidates in a row were over the budget.
        """
        self._look()
        for runs in {held.runs for held in self._waiting}:
            refresh_runs(runs, every=REFRESH)
        for held in self._waiting:
            state = held.record.state()
            if held.fingerprint not in running and state != "running":
                self._waiting.remove(held)
                return SettledCell(held, None) if state in ENDED else held
        for _ in range(OVER_IN_A_ROW):
            self._look()
            if self._left <= 0:
                return None
            trial = self.study.ask()
            trial.set_user_attr(stored_trials.OWNER, self._me)
            stores.beat(self.study._storage, [trial])  # Optuna does not detect the loss of a trial without a heartbeat
            job = self._begin(trial)
            if job is not None:
                self._left -= 1
                return self._offer(trial, job)
        raise UsageError(
            f"{OVER_IN_A_ROW} candidates in a row were over the budget: search a smaller space, or allow more"
        )

    def put_back(self, job: CellJob) -> None:
        """Wait for the result of another runner that trains the cell."""
        self._waiting.append(job)

    def _offer(self, trial: Trial, job: CellJob) -> CellJob | SettledCell | None:
        """Return `job`, or None or its outcome if it is under way or done."""
        known = self._open.get(job.fingerprint)
        if known is not None:
            known.trials.append(trial)
            return None
        self._open[job.fingerprint] = _Open(job, [trial], JournalReader(job.record.folder))
        refresh_runs(job.runs, [job.fingerprint])
        if job.record.state() in ENDED:
            trial.set_user_attr(stored_trials.REUSED, True)
            return SettledCell(job, None)
        return job

    def _begin(self, trial: Trial) -> CellJob | None:
        """Return the cell of a new trial; None if it is over the budget or surplus."""
        diff = self.setting.space.suggest(trial)
        declared = self.setting.declared(diff)
        trial.set_user_attr(stored_trials.DIFF, diff)
        trial.set_user_attr(stored_trials.COUNTS, self.setting.budget.counts(declared))
        limits = self.setting.budget.constraints(declared)
        is_infeasible = any(value > 0 for value in limits.values())
        if is_infeasible:
            trial.set_user_attr(stored_trials.INFEASIBLE, True)
        for name, value in limits.items():
            if name not in trial.constraints:  # a retried trial has them already
                trial.set_constraint(name, value)
        if is_infeasible:
            self._tell_infeasible(trial)
            return None
        job = self.make_job(trial.number, diff)
        trial.set_user_attr(stored_trials.CELL, job.fingerprint)
        if self._is_surplus(trial):
            trial.set_user_attr(stored_trials.SURPLUS, True)
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        self.begun(trial, job)
        return job

    def _tell_infeasible(self, trial: Trial | int) -> None:
        """Prune a candidate over the budget: it has no value, and its constraints hold the excess.

        tpe learns from that directly, gp and nsgaii through `infeasible.SeesInfeasible`; both ignore failed trials.
        """
        self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)

    def _is_surplus(self, trial: Trial) -> bool:
        """Tell whether other runners have asked for the last wanted trials at the same time."""
        earlier = [other for other in stored_trials.all_trials(self.study) if other.number < trial.number]
        return stored_trials.count_trials(earlier).counted >= self.wanted

    def _look(self) -> None:
        self._looked = time.monotonic()
        stores.beat(self.study._storage, [trial for cell in self._open.values() for trial in cell.trials])
        stores.retry_lost(self.study)
        if stores.has_heartbeat(self.study._storage):
            self._give_up_unbegun()
        else:
            self._adopt()
        counts, ours = stored_trials.count_trials(stored_trials.all_trials(self.study)), len(self._ours())
        self._left = max(0, self.wanted - counts.counted)
        ours += len(self._stopped)
        missing = self.wanted - counts.trained - counts.pruned - ours
        self.elsewhere = max(0, min(missing, counts.running - ours))

    def _ours(self) -> set[int]:
        """Return the numbers of the trials that this runner has."""
        return {trial.number for cell in self._open.values() for trial in cell.trials}

    def _give_up_unbegun(self) -> None:
        """End abandoned trials of a database that have no cell; trials with a cell are covered by the heartbeat."""
        for lost in stored_trials.all_trials(self.study):
            if lost.state == TrialState.RUNNING and stored_trials.CELL not in lost.user_attrs:
                self._give_up(lost, is_dead=False)

    def _adopt(self) -> None:
        """Take over running trials whose runner has died and whose cell nobody holds."""
        ours = self._ours()
        for lost in stored_trials.all_trials(self.study):
            if lost.state != TrialState.RUNNING or lost.number in ours:
                continue
            alive = stored_trials.is_runner_alive(lost.user_attrs.get(stored_trials.OWNER), self._me)
            if alive:
                continue
            if stored_trials.CELL in lost.user_attrs:
                self._take_over(lost, is_dead=alive is False)
            else:
                self._give_up(lost, is_dead=alive is False)

    def _take_over(self, lost: FrozenTrial, *, is_dead: bool) -> None:
        """Resume the cell of a trial, unless another runner trains it or may be about to."""
        trial = Trial(self.study, lost._trial_id)
        job = self.make_job(lost.number, stored_trials.diff_of(lost))
        if job.record.state() == "running":
            return
        if not is_dead and stored_trials.OWNER in lost.user_attrs and stored_trials.age(lost) < stored_trials.UNBEGUN:
            return  # another host asked for it and may not hold its cell yet
        trial.set_user_attr(stored_trials.OWNER, self._me)
        known = self._open.get(job.fingerprint)
        if known is not None:
            known.trials.append(trial)
            return
        self.begun(trial, job)
        self._open[job.fingerprint] = _Open(job, [trial], JournalReader(job.record.folder))
        self._waiting.append(job)

    def _give_up(self, lost: FrozenTrial, *, is_dead: bool) -> None:
        """End a trial whose runner died before it had a cell, which loses no work.

        A trial with fixed parameters, such as the baseline, is enqueued again.
        """
        if not is_dead and stored_trials.age(lost) <= stored_trials.UNBEGUN:
            return
        if stored_trials.is_infeasible(lost):
            self._tell_infeasible(lost.number)
            return
        fixed = lost.system_attrs.get("fixed_params")
        if fixed and not any(
            lost.number in stored_trials.retried_trials(other) for other in stored_trials.all_trials(self.study)
        ):
            again = {"fixed_params": fixed, "failed_trial": lost.number}
            history = [*stored_trials.retried_trials(lost), lost.number]
            self.study.add_trial(
                optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={**again, "retry_history": history})
            )
        self.study.tell(lost.number, state=TrialState.FAIL, skip_if_finished=True)

    # Methods of a listener

    def progress(self, job: CellJob) -> None:
        """Report the validation accuracy of each epoch, and stop the cell if its trial is to be pruned."""
        cell = self._open[job.fingerprint]
        for point in cell.reader.written():
            if "val/acc" not in point.values or len(self.setting.objectives) > 1 or cell.pruned_at is not None:
                continue
            news = [trial for trial in cell.trials if point.epoch not in self._reported(trial)]
            for trial in news:
                trial.report(point.values["val/acc"], point.epoch)
            if not news:
                continue  # the epochs of an attempt that was stopped
            may_not = point.epoch >= job.recipe.train.epochs or job.recipe.digest() == self._baseline
            if not may_not and all(trial.should_prune() for trial in cell.trials):
                cell.pruned_at = point.epoch
                self.stop(job.fingerprint)

    def _reported(self, trial: Trial) -> Mapping[int, float]:
        """Return the accuracies that a trial has by epoch; Optuna warns when it is told one again."""
        return self.study._storage.get_trial(trial._trial_id).intermediate_values

    def pruned_at(self, job: CellJob) -> int | None:
        """Return the epoch after which a cell was stopped for pruning; None if it was not, or ended anyway."""
        cell = self._open.get(job.fingerprint)
        return cell.pruned_at if cell is not None and job.record.result() is None else None

    def ended(self, job: CellJob, error: str | None) -> None:
        cell = self._open.pop(job.fingerprint)
        self._looked = -math.inf  # a failed trial is replaced
        result = job.record.result()
        if result is None and cell.pruned_at is None and error is not None and job.record.failure() is None:
            self._stopped |= {trial.number for trial in cell.trials}
            return  # interrupted: these trials can be resumed later
        self._failures = 0 if result is not None or cell.pruned_at is not None else self._failures + 1
        for trial in cell.trials:
            self._tell(trial, cell, result, error)
            self.told(trial.number)
        if self._failures >= FAILED_IN_A_ROW:
            raise UsageError(f"{FAILED_IN_A_ROW} trials in a row failed: {error}")

    def _tell(self, trial: Trial, cell: _Open, result: ResultFile | None, error: str | None) -> None:
        if result is None and cell.pruned_at is not None:
            trial.set_user_attr(stored_trials.PRUNED_AT, cell.pruned_at)
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        elif result is None:
            trial.set_user_attr(stored_trials.ERROR, error)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            if not result.is_finished:
                trial.set_user_attr(stored_trials.DIVERGED, True)
            accuracy = result.metrics.get("val/acc", NOTHING) if result.is_finished else NOTHING
            self.study.tell(trial, self._values(trial, accuracy), skip_if_finished=True)

    def _values(self, trial: Trial, accuracy: float) -> list[float]:
        counts = trial.user_attrs[stored_trials.COUNTS]
        known = {"accuracy": accuracy, "params": float(counts["parameters"]), "macs": float(counts["macs"])}
        return [known[name] for name in self.setting.objectives]

"""Cells of a study's trials, and the note that maps them to trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.config.execution import Execution
from cifar_lab.data.dataset import Dataset
from cifar_lab.errors import TrackingError
from cifar_lab.execution.plan import Plan, make_plan
from cifar_lab.execution.runner import asked_of, invocation_of, job_of
from cifar_lab.execution.worker import CellJob
from cifar_lab.search import stored_trials
from cifar_lab.search.study import NOTE, StudySettings, experiment
from cifar_lab.store.invocation import CellRef, Invocation, RecordedCommand
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.lock_on_store import locked_on_store
from cifar_lab.store.shared_note import LOCK, change_note

UNBOUNDED = 2**62
"""No limit, as the budget is checked before a cell is planned."""


def trial_name(number: int) -> str:
    """Return the variant name of a trial: `t007`."""
    return f"t{number:03}"


@dataclass
class TrialJobs:
    """Plans the cell of each trial, and maintains their note in `runs`; several runners may share it."""

    setting: StudySettings
    dataset: Dataset
    source: str
    runs: Path
    execution: Execution
    command: RecordedCommand = field(default=RecordedCommand(typed=""))
    """Command that asked for the search, for the record."""
    changed: Callable[[Invocation], None] = lambda _: None
    """Called with the note whenever it has grown."""
    _id: str = ""
    _planned: dict[int, Plan] = field(default_factory=dict)
    _is_renewed: bool = False
    """True once the note describes this runner: its command, code and execution."""

    def job(self, number: int, diff: Mapping[str, Any]) -> CellJob:
        """Return the cell of a trial."""
        plan = self._plan(number, diff)
        return job_of(plan.cells[0], plan, self.runs, self.execution)

    def begin(self, study: optuna.Study, number: int, job: CellJob) -> None:
        """Record the cell of a trial, replacing lost trials that it retries."""
        plan, lost = self._planned.pop(number), set(map(trial_name, self._lost(study, number)))

        def grown() -> Invocation:
            note = self._note(study, plan)
            asked = asked_of(plan.cells[0])
            cells = {cell.variant: cell for cell in (*note.cells, asked) if cell.variant not in lost}
            note = replace(note, cells=_ordered(cells), control=self._control(cells))
            return _tagged(note, job.fingerprint, {"trial": str(number)})

        self._change(grown)
        self._is_renewed = True

    def _lost(self, study: optuna.Study, number: int) -> list[int]:
        own = (trial for trial in stored_trials.all_trials(study) if trial.number == number)
        return next(map(stored_trials.retried_trials, own), [])

    def _control(self, cells: Mapping[str, CellRef]) -> str:
        """Return the trial of the baseline; before there is one, the first trial."""
        plain = self.setting.recipe({}).digest()
        return trial_name(min(map(_number, [name for name, cell in cells.items() if cell.recipe == plain] or cells)))

    def tag(self, fingerprint: str, tags: dict[str, str]) -> None:
        """Record the outcome of a cell's trial as tags."""

        def tagged() -> Invocation:
            note = read_index(self.runs).find(self._id)
            if note is None:
                raise TrackingError(
                    f"{self.runs / 'invocations'}: the note {self._id} is gone or damaged; see cifar-lab fsck"
                )
            return _tagged(note, fingerprint, tags)

        self._change(tagged)

    def _change(self, make: Callable[[], Invocation]) -> None:
        if (note := change_note(self.runs, make)) is not None:
            self.changed(note)

    def _plan(self, number: int, diff: Mapping[str, Any]) -> Plan:
        setting = self.setting
        ablation = Ablation(
            name=experiment(setting.study),
            question=f"Which recipe of the space '{setting.space.name}' is best on val?",
            source=f"a search of {setting.space.question}",
            baseline=setting.space.baseline,
            factors=tuple(diff),
            variants=(Variant(name=trial_name(number), diff=dict(diff)),),
            control=trial_name(number),
            seeds=(setting.seed,),
        )
        plan = make_plan(
            ablation, scale=setting.scale, source=self.source, dataset=self.dataset, runs=self.runs,
            overrides=setting.overrides, max_params=UNBOUNDED,
        )  # fmt: skip
        self._planned[number] = plan
        return plan

    def _note(self, study: optuna.Study, plan: Plan) -> Invocation:
        """Return the current note of the study, or a new one."""
        self._id = self._id or study.user_attrs.get(NOTE, "")
        note = read_index(self.runs).find(self._id) if self._id else None
        if note is not None and self._is_renewed:
            return note
        made = replace(
            invocation_of(plan, self.execution, self.command), cells=(), metric="val/acc", margin=None,
            factors=tuple(sorted(set(self.setting.space.paths()))),
        )  # fmt: skip
        if note is not None:
            return replace(
                note, command=made.command, again=made.again, retry=made.retry, execution=made.execution,
                provenance=made.provenance,
            )  # fmt: skip
        if not self._id:
            with locked_on_store(self.runs / LOCK):  # of two machines on one store, one names the note
                if NOTE not in study.user_attrs:
                    study.set_user_attr(NOTE, made.id)
                self._id = study.user_attrs[NOTE]
        return replace(made, id=self._id)  # if another host has begun it, both share one run in MLflow


def add_remarks(study: optuna.Study, runs: Path, remarks: Mapping[str, str]) -> Invocation | None:
    """Record what became of a study as tags of its run; return its note if that changes it, else None.

    Raises:
        TrackingError: the note cannot be written.
    """

    def remarked() -> Invocation | None:
        note = note_of(study, runs)
        if note is None or remarks.items() <= note.remarks.items():
            return None
        return replace(note, remarks={**note.remarks, **remarks})

    return change_note(runs, remarked)


def note_of(study: optuna.Study, runs: Path) -> Invocation | None:
    """Return the note of a study's first runner, if it is in `runs`."""
    wanted = study.user_attrs.get(NOTE)
    return read_index(runs).find(wanted) if wanted else None


def _tagged(note: Invocation, fingerprint: str, tags: dict[str, str]) -> Invocation:
    return replace(note, tags={**note.tags, fingerprint: {**note.tags.get(fingerprint, {}), **tags}})


def _ordered(cells: dict[str, CellRef]) -> tuple[CellRef, ...]:
    return tuple(cells[name] for name in sorted(cells, key=_number))


def _number(name: str) -> int:
    return int(name.removeprefix("t"))


def dumps(value: object) -> str:
    """Return compact JSON, for tags."""
    return json.dumps(value, separators=(",", ":"))

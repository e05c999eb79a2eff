"""Collect the contents of a search's page from its storage, and its files for the tracking store."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from cifar_lab.config.overrides import as_typed, format_overrides
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import first_line
from cifar_lab.redaction import redacted
from cifar_lab.report.html import render_sweep
from cifar_lab.report.sweep_page import STATES, ChangedSetting, DimensionSummary, SweepPage, TrialSummary
from cifar_lab.results.confirmation import Confirmation
from cifar_lab.search import stored_trials
from cifar_lab.search.confirmation import load_confirmation
from cifar_lab.search.dimension import Dimension as Searched
from cifar_lab.search.dimension import Integer, Real
from cifar_lab.search.importance import importances
from cifar_lab.search.study import StudySettings, setting_of
from cifar_lab.search.study_schema import SETTING
from cifar_lab.search.trial_jobs import note_of
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.runs_folder import STUDIES

TIME = "%Y-%m-%d %H:%M"


def load_sweep_page(study: optuna.Study, *, runs: Path, storage: str | None = None) -> SweepPage:
    """Load the data of a study's page; `runs` may hold the note of its start; `storage`, as typed.

    Raises:
        UsageError: the study is not one of cifar-lab, or its space has been changed since.
        TrackingError: a note in `runs` cannot be read.
    """
    setting, best = setting_of(study), stored_trials.best(study)
    note, confirmation = note_of(study, runs), load_confirmation(study, runs)
    recipe = setting.declared(stored_trials.diff_of(best)) if best is not None else None
    return SweepPage(
        study=setting.study,
        question=setting.space.question,
        space=setting.space.name,
        scale=setting.scale.name,
        data=setting.data["name"],
        overrides=setting.overrides,
        max_params=setting.budget.max_params,
        max_macs=setting.budget.max_macs,
        objectives=setting.objectives,
        dimensions=tuple(map(_dimension, setting.space.dimensions)),
        trials=tuple(_trials(study, setting, runs)),
        importance=importances(study),
        confirmation=confirmation,
        changes=tuple(_changes(setting, recipe)) if recipe is not None else (),
        recipe=recipe.model_dump(mode="json") if recipe is not None else None,
        how=tuple(_how(study, setting, note, storage or f"{runs.name}/{STUDIES}")),
        reproduce=tuple(_reproduce(study, setting, note, storage, confirmation)),
    )


def sweep_files(study: optuna.Study, runs: Path, storage: str | None = None) -> Mapping[str, str]:
    """Return `report.html`, and `best.json` for `train --recipe` once a trial has a value; `storage`, as typed.

    Raises:
        UsageError: the study is not one of cifar-lab, or its space has been changed since.
    """
    page = load_sweep_page(study, runs=runs, storage=storage)
    best = {"best.json": _text(page.recipe)} if page.recipe is not None else {}
    confirmed = {"confirmation.json": _text(page.confirmation.as_dict())} if page.confirmation is not None else {}
    shares = {name: value for name, value in asdict(page.importance).items() if name != "trials"}
    importances_file = {"importances.json": _text(shares)} if page.importances else {}
    return {"report.html": render_sweep(page), **best, **confirmed, **importances_file}


def _text(tree: object) -> str:
    return json.dumps(tree, indent=1) + "\n"


def _dimension(searched: Searched) -> DimensionSummary:
    if isinstance(searched, Integer | Real):
        return DimensionSummary(
            name=searched.name, words=searched.words, low=searched.low, high=searched.high, is_log=searched.log
        )
    return DimensionSummary(name=searched.name, words=searched.words, labels=searched.labels)


def _trials(study: optuna.Study, setting: StudySettings, runs: Path) -> Iterator[TrialSummary]:
    """Yield the trials that were begun and not withdrawn; `runs` tells which of them are stopped."""
    every = stored_trials.all_trials(study)
    lost, stopped = stored_trials.retried(every), stored_trials.stopped_trials(study, runs)
    for trial in every:
        state = "stopped" if trial.number in stopped else _state(trial)
        if state is not None and trial.number not in lost:
            yield _trial(trial, state, setting)


def _state(trial: FrozenTrial) -> str | None:
    """Return the counted state of a trial; None if it is not counted. A diverged trial's value is a placeholder."""
    if stored_trials.is_result(trial) and (
        trial.user_attrs.get(stored_trials.DIVERGED) or not math.isfinite(trial.values[0])
    ):
        return "diverged"
    counts = asdict(stored_trials.count_trials([trial]))
    return next((state for state in STATES if counts.get(state)), None)


def _trial(trial: FrozenTrial, state: str, setting: StudySettings) -> TrialSummary:
    counts = trial.user_attrs.get(stored_trials.COUNTS, {})
    diff = stored_trials.diff_of(trial) if stored_trials.DIFF in trial.user_attrs else None
    reported = [value for _, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)]
    is_pruned = state == "pruned"
    return TrialSummary(
        number=trial.number,
        state=state,
        value=float(trial.values[0]) if state == "trained" else None,
        parameters=counts.get("parameters"),
        macs=counts.get("macs"),
        pruned_at=trial.user_attrs.get(stored_trials.PRUNED_AT, trial.last_step) if is_pruned else None,
        last=float(reported[-1]) if is_pruned and reported else None,
        params=dict(trial.params),
        diff=None if diff is None else setting.space.baseline.changes_to(setting.space.baseline.override(diff)),
        note=_first_line(trial.user_attrs.get(stored_trials.ERROR)) if state == "failed" else "",
    )


def _first_line(text: object) -> str:
    """Return the first line without passwords: an error may repeat the address of a storage."""
    return redacted(first_line(text or ""))


def _changes(setting: StudySettings, recipe: Recipe) -> Iterator[ChangedSetting]:
    owners = {path: dimension.name for dimension in setting.space.dimensions for path in dimension.paths()}
    plain = setting.space.baseline.flat()
    for path, value in setting.space.baseline.changes_to(recipe).items():
        yield ChangedSetting(path=path, baseline=plain[path], best=value, by=owners.get(path, "set"))


# Provenance


def _how(
    study: optuna.Study, setting: StudySettings, note: Invocation | None, storage: str
) -> Iterator[tuple[str, str]]:
    budget, space = setting.budget, setting.space
    macs = f" and {budget.max_macs:,} MACs" if budget.max_macs is not None else ""
    yield "space", f"{space.name}, sha256 {space.digest()}"
    if setting.sampler:
        yield "sampler", setting.sampler
    if setting.pruner:
        yield "pruner", setting.pruner
    yield "budget", f"{budget.max_params:,} parameters{macs}, of the network as declared, before the scale"
    yield "objectives", ", ".join(setting.objectives)
    yield "scale", setting.scale.name
    yield "overrides", format_overrides(setting.overrides) or "none"
    yield "seed", f"{setting.seed}, of every trial"
    yield "data", f"{setting.data['name']}, sha256 {setting.data['hash']}"
    yield "storage", redacted(storage)
    if note is not None:
        yield "command", note.command
        execution = note.execution.as_json() if note.execution is not None else {}
        yield "executed on", ", ".join(f"{name} {as_typed(value)}" for name, value in execution.items())
    every = stored_trials.all_trials(study)
    begun = [trial.datetime_start for trial in every if trial.datetime_start is not None]
    ended = [trial.datetime_complete for trial in every if trial.datetime_complete is not None]
    if begun:
        yield "time", " to ".join(f"{time:{TIME}}" for time in (min(begun), *([max(ended)] if ended else [])))


def _reproduce(
    study: optuna.Study, setting: StudySettings, note: Invocation | None, storage: str | None,
    confirmation: Confirmation | None,
) -> Iterator[str]:  # fmt: skip
    """Yield the commands that reproduce the study: code, search, best recipes with new seeds, and its ablation."""
    if note is not None and note.provenance.git_commit:
        changed = "  # and changes that were not committed" if note.provenance.git_dirty else ""
        yield f"git checkout {note.provenance.git_commit}{changed}"
    name = shlex.quote(setting.study)
    kept = f" --storage {shlex.quote(redacted(storage))}" if storage is not None else ""
    yield note.command if note is not None else _command(study, setting) + kept
    best = stored_trials.best(study)
    if best is not None:
        where = f"--scale {setting.scale.name} --data {shlex.quote(setting.data['source'])}"
        yield f"cifar-lab sweep-best {name} -o best.json{kept}"
        yield f"cifar-lab train --recipe best.json --seeds 1-3 {where} {format_overrides(setting.overrides)}".rstrip()
        tuned = setting.declared(stored_trials.diff_of(best))
        if tuned.digest() != setting.declared({}).digest():
            yield f"cifar-lab sweep-confirm {name}{_confirmed(confirmation)}{kept}"
            yield f"cifar-lab ablate-best {name}{kept}"
    yield f"cifar-lab sweep-report {name}{kept}"


def _confirmed(confirmation: Confirmation | None) -> str:
    """Return the options of the confirmation that was made; empty if none was."""
    if confirmation is None:
        return ""
    seeds = ",".join(map(str, confirmation.seeds))
    return f" --top {len(confirmation.finalists)} --seeds {seeds}"


def _command(study: optuna.Study, setting: StudySettings) -> str:
    """Return a command that gives the same study, if the original one is unknown."""
    budget, counted = setting.budget, stored_trials.count_trials(stored_trials.all_trials(study)).counted
    words = ["cifar-lab", "sweep", "--study", setting.study, "--trials", str(max(1, counted))]
    words += ["--space", study.user_attrs[SETTING]["space_source"], "--max-params", str(budget.max_params)]
    words += ["--max-macs", str(budget.max_macs)] if budget.max_macs is not None else []
    words += ["--objective", ",".join(setting.objectives), "--seed", str(setting.seed)]
    words += ["--sampler", setting.sampler] if setting.sampler else []
    words += ["--pruner", setting.pruner] if setting.pruner else []
    words += ["--scale", setting.scale.name, "--data", setting.data["source"]]
    return f"{shlex.join(words)} {format_overrides(setting.overrides)}".rstrip()

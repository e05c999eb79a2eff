"""Outcomes of a study's trials, and the runners that own them."""

from __future__ import annotations

import math
import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.mirror import refresh_runs

StoredTrial = FrozenTrial
"""Trial as read from a study; other packages, which do not import Optuna, know it by this name."""
CELL, DIFF, COUNTS, REUSED = "cell", "diff", "counts", "reused"
"""User attributes of a trial: fingerprint of its cell, diff, counts of its network, whether its cell existed."""
PRUNED_AT, DIVERGED, ERROR, SURPLUS = "pruned_at", "diverged", "error", "surplus"
INFEASIBLE, OWNER = "infeasible", "owner"
"""User attributes of a trial: whether it is over the budget, and the runner that has it."""
UNBEGUN = 60.0
"""Seconds allowed to a trial between being asked for and having a cell."""
TOLERANCE = 2.0
"""Tolerance in seconds between two readings of a process's start time, as clocks may be set."""


@dataclass(frozen=True, kw_only=True)
class TrialCounts:
    """Number of trials by outcome. An infeasible trial is neither wanted nor a failure."""

    trained: int
    """Trials with a value, newly trained or from an existing cell."""
    pruned: int
    infeasible: int
    failed: int
    running: int

    @property
    def counted(self) -> int:
        """Number of trials that count towards the wanted number."""
        return self.trained + self.pruned + self.running


def is_infeasible(trial: FrozenTrial) -> bool:
    """Tell whether a trial is over the budget and so was never trained.

    Optuna has it as pruned and without a value. Earlier versions failed it, or gave it the median of the others.
    """
    return bool(trial.user_attrs.get(INFEASIBLE)) or any(value > 0 for value in constraints(trial).values())


def constraints(trial: FrozenTrial) -> dict[str, float]:
    """Return the constraints by name; a positive value is a violation."""
    return dict(trial.constraints or {})


def is_result(trial: FrozenTrial) -> bool:
    """Tell whether a trial has a value that was measured here, not one set by another program."""
    is_ours = DIFF in trial.user_attrs and COUNTS in trial.user_attrs
    return trial.state == TrialState.COMPLETE and is_ours and not is_infeasible(trial)


def has_diverged(trial: FrozenTrial) -> bool:
    """Tell whether a trial diverged, so that its value is a placeholder for samplers."""
    return bool(trial.user_attrs.get(DIVERGED))


def is_surplus(trial: FrozenTrial) -> bool:
    """Tell whether a trial was requested by two runners at once, and withdrawn."""
    return bool(trial.user_attrs.get(SURPLUS))


def retried(trials: Iterable[FrozenTrial]) -> set[int]:
    """Return the numbers of lost trials that were retried, each by a later trial."""
    return {number for trial in trials for number in retried_trials(trial)}


def retried_trials(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the lost trials that `trial` retries."""
    return list(trial.system_attrs.get("retry_history", []))  # Optuna's own reader of it warns that it may change


def count_trials(trials: Iterable[FrozenTrial]) -> TrialCounts:
    """Count trials by outcome; a lost trial that was retried is no failure."""
    every = list(trials)
    again = retried(every)
    kinds = [_kind(trial) for trial in every if trial.number not in again]
    names = ("trained", "pruned", "infeasible", "failed", "running")
    return TrialCounts(**{name: kinds.count(name) for name in names})


def _kind(trial: FrozenTrial) -> str:
    if trial.state == TrialState.WAITING or is_surplus(trial):
        return "none"
    if is_infeasible(trial):
        return "infeasible"
    kinds = {TrialState.COMPLETE: "trained", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    return kinds.get(trial.state, "running")


def all_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials, by number."""
    return study.get_trials(deepcopy=False)


def sound(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials with a finite value of their own, by number."""
    return [
        trial
        for trial in all_trials(study)
        if is_result(trial) and not has_diverged(trial) and all(map(math.isfinite, trial.values))
    ]


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials with a value of their own, the best first.

    The best has the highest accuracy; of equal ones that with fewer parameters, then that with the lower number. So the
    best is on the front.
    """
    return sorted(sound(study), key=lambda trial: (-trial.values[0], parameters(trial), trial.number))


def best(study: optuna.Study) -> FrozenTrial | None:
    """Return the first of `ranked`; None before a trial has a value of its own."""
    return next(iter(ranked(study)), None)


def pareto_front(study: optuna.Study) -> list[FrozenTrial]:
    """Return the Pareto front of accuracy and parameters, the smallest network first."""
    found = sorted(sound(study), key=lambda t: (parameters(t), -t.values[0], t.number))
    kept: list[FrozenTrial] = []
    for trial in found:
        if not kept or trial.values[0] > kept[-1].values[0]:
            kept.append(trial)
    return kept


def parameters(trial: FrozenTrial) -> int:
    """Return the parameters of the network as declared."""
    return int(trial.user_attrs[COUNTS]["parameters"])


def diff_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return the trial's diff on the baseline of the space."""
    return dict(trial.user_attrs[DIFF])


def age(trial: FrozenTrial) -> float:
    """Return the seconds since a trial was asked for."""
    return (datetime.now() - (trial.datetime_start or datetime.min)).total_seconds()


def stopped_trials(study: optuna.Study, runs: Path) -> set[int]:
    """Return the numbers of the running trials whose runner has ended and whose cell in `runs` nobody trains.

    The next runner goes on from them. A trial of another host may be stopped only `UNBEGUN` seconds after its start.
    """
    me, every = new_owner(), all_trials(study)
    lost = retried(every)
    running = [trial for trial in every if _kind(trial) == "running" and trial.number not in lost]
    if cells := [trial.user_attrs[CELL] for trial in running if CELL in trial.user_attrs]:
        refresh_runs(runs, cells)
    return {trial.number for trial in running if is_stopped(trial, runs, me)}


def is_stopped(trial: FrozenTrial, runs: Path, me: Mapping[str, Any]) -> bool:
    """Tell whether the runner of a running trial has ended, and nobody trains its cell; `me`: this runner."""
    owner, cell = trial.user_attrs.get(OWNER), trial.user_attrs.get(CELL)
    if cell is None or (alive := is_runner_alive(owner, me)):
        return False
    if alive is None and owner is not None and age(trial) < UNBEGUN:
        return False  # another host asked for it and may not hold its cell yet
    return CellRecord(runs / cell).state() != "running"


# Owners: a killed runner's trials are detected on its host


def new_owner() -> dict[str, Any]:
    """Return a unique identity of this runner: host, process, its start (s since 1970), and a token."""
    began = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": began, "run": uuid.uuid4().hex}


def is_runner_alive(owner: object, me: Mapping[str, Any]) -> bool | None:
    """Tell whether the runner `owner`, as stored in a trial, is alive; None if unknown on this host.

    `me`: this runner. An earlier runner of the same process has ended.
    """
    if not isinstance(owner, Mapping) or owner.get("host") != me["host"]:
        return None
    if owner.get("pid") == me["pid"]:
        return bool(owner.get("run") == me["run"])
    try:
        began = psutil.Process(int(owner["pid"])).create_time()
    except psutil.AccessDenied:
        return None
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return False
    return abs(began - float(owner.get("began", began))) < TOLERANCE

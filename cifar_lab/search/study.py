"""Studies: search space, objectives and budget, all fixed when the study is created."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from cifar_lab.config import scale as scales
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import NUMERICS, Recipe
from cifar_lab.config.scale import Scale
from cifar_lab.errors import UsageError, nearest
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.space import Space
from cifar_lab.search.spaces import find_space
from cifar_lab.search.study_schema import SETTING, require_sound
from cifar_lab.store.ablation_file import SEARCH
from cifar_lab.store.invocation_index import read_index

_log = logging.getLogger(__name__)
OptunaStudy = optuna.Study
"""Optuna's type of a study."""
NOTE = "invocation"
"""User attribute of a study that holds the id of its note."""
PATIENCE = 10.0
"""Seconds to wait for a runner that is currently creating the study."""
OBJECTIVES = {
    "accuracy": optuna.study.StudyDirection.MAXIMIZE,
    "params": optuna.study.StudyDirection.MINIMIZE,
    "macs": optuna.study.StudyDirection.MINIMIZE,
}


NAMES = {"accuracy": "accuracy on val", "params": "parameters", "macs": "MACs"}


def experiment(study: str) -> str:
    """Return the name of a study among the ablations."""
    return f"{SEARCH}{study}"


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Settings of a study, equal for all its runners."""

    study: str
    space: Space
    space_source: str = ""
    """Source as typed: the name of a space, or the path of a file."""
    scale: Scale
    data: dict[str, str]
    """Name, kind, hash and the source as typed."""
    overrides: dict[str, Any] = field(default_factory=dict)
    budget: SearchBudget
    objectives: tuple[str, ...] = ("accuracy",)
    seed: int = 0
    sampler: str = ""
    pruner: str = ""
    """Names of the sampler and the pruner of the runner that created the study; empty in older studies."""

    def declared(self, diff: dict[str, Any]) -> Recipe:
        """Return the recipe without the scale, which the budget applies to."""
        return self.space.baseline.override(diff).override(self.overrides)

    def recipe(self, diff: dict[str, Any]) -> Recipe:
        """Return the recipe that is trained."""
        return self.scale.apply(self.space.baseline.override(diff)).override(self.overrides)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings that must be equal for two runners of one study."""
        return {
            "space": self.space.name,
            "space_digest": self.space.digest(),
            "scale": self.scale.name,
            "data": self.data["hash"],
            "overrides": self.overrides,
            "max_params": self.budget.max_params,
            "max_macs": self.budget.max_macs,
            "objectives": list(self.objectives),
            "seed": self.seed,
            "numerics": NUMERICS,
        }

    def origins(self) -> dict[str, Any]:
        """Return what may differ between runners or follows from the data: paths, shape of images, sampler, pruner."""
        paths = {"space_source": self.space_source, "data_source": self.data}
        return {**paths, "images": list(self.budget.images), "sampler": self.sampler, "pruner": self.pruner}


def open_study(
    storage: BaseStorage,
    setting: StudySettings,
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
) -> optuna.Study:
    """Return the study of this name, created if necessary; its first trial is the baseline of the space.

    A study whose creation was interrupted is completed.

    Raises:
        UsageError: a study of this name has other settings, or is damaged.
    """
    shared: dict[str, Any] = {"study_name": setting.study, "storage": storage, "sampler": sampler, "pruner": pruner}
    directions = [OBJECTIVES[name] for name in setting.objectives]
    wanted = json.loads(json.dumps(setting.as_dict()))
    try:
        study = optuna.create_study(**shared, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(**shared)
        if _is_whole(study):
            _require_same(study, wanted)
            require_sound(study)
            sampler.reseed_rng()  # with the same seed it would propose another runner's candidates
            return study
        _require_half_made(study, directions)
    study.set_metric_names([NAMES[name] for name in setting.objectives])  # for Optuna's dashboard
    baseline = setting.space.params_of(setting.space.baseline)
    if baseline is not None and not study.get_trials(deepcopy=False):
        study.enqueue_trial(baseline)
    study.set_user_attr(SETTING, {**wanted, **setting.origins()})  # last, as now others may use it
    return study


def _is_whole(study: optuna.Study) -> bool:
    """Tell whether a study has its settings; waits for another runner that is currently creating it."""
    ends = time.monotonic() + PATIENCE
    while SETTING not in study.user_attrs:
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


def _require_half_made(study: optuna.Study, directions: list[optuna.study.StudyDirection]) -> None:
    """Check that a study holds no more than is written during its creation."""
    is_begun = any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))
    if is_begun or study.user_attrs or study.directions != directions:
        raise UsageError(f"--study {study.study_name}: there is one, and it is not of cifar-lab; take another name")


def _require_same(study: optuna.Study, wanted: dict[str, Any]) -> None:
    known = study.user_attrs[SETTING]
    if not isinstance(known, dict):
        raise UsageError(f"study '{study.study_name}': damaged: its setting is no object")
    other = next((key for key, value in wanted.items() if known.get(key) != value), None)
    if other is not None:
        raise UsageError(
            f"--study {study.study_name} exists with another value of {other.removesuffix('_digest')}: "
            f"{_short(known.get(other))}, not {_short(wanted[other])}; take another name"
        )


def load_study(storage: BaseStorage, name: str, runs: Path | None = None) -> optuna.Study:
    """Return the study of this name, also if the name would be rejected for a new study.

    `runs`: the runs folder, whose note of the study shows whether the storage has lost its end.

    Raises:
        UsageError: the study is missing or damaged.
    """
    known = optuna.get_all_study_names(storage)
    if name not in known:
        raise UsageError(f"no study named '{name}'{nearest(name, known)}")
    study = optuna.load_study(study_name=name, storage=storage)
    require_sound(study)
    if runs is not None:
        require_all_trials(study, runs)
    return study


def require_all_trials(study: optuna.Study, runs: Path) -> None:
    """Check that a study has all the trials of its note in `runs`; otherwise the storage has lost its end.

    A study without a note has no trial yet, or was cut off before its first: this gives a warning.

    Raises:
        UsageError: trials are lost.
    """
    notes = read_index(runs).of_ablation(experiment(study.study_name))
    own = study.user_attrs.get(NOTE)
    named = [note for note in notes if note.id == own] if own else notes[-1:]
    last = max((int(cell.variant.removeprefix("t")) for note in named for cell in note.cells), default=-1)
    there = len(study.get_trials(deepcopy=False))
    if last < there:
        return
    line = f"study '{study.study_name}': its storage has {there} trials, and its note in {runs} names trial {last}"
    if own:
        advice = "bring back a copy, or move the storage away: a new study does not train finished cells again"
        raise UsageError(f"{line}: the storage lost its end; {advice}")
    _log.warning("%s: the storage lost its end, or the study was begun anew", line)


def study_names(storage: BaseStorage) -> list[str]:
    """Return the names of the studies in a storage, sorted."""
    return sorted(optuna.get_all_study_names(storage))


def setting_of(study: optuna.Study) -> StudySettings:
    """Return the settings of a study, as fixed when it was created.

    Raises:
        UsageError: its space has changed since.
    """
    known = study.user_attrs.get(SETTING)
    if known is None:
        raise UsageError(f"{study.study_name} is no study of cifar-lab")
    space = find_space(known["space_source"])
    if space.digest() != known["space_digest"]:
        raise UsageError(
            f"the space '{known['space']}' of {study.study_name} has been changed since the study was made"
        )
    return StudySettings(
        study=study.study_name,
        space=space,
        space_source=known["space_source"],
        scale=scales.find_scale(known["scale"]),
        data=known["data_source"],
        overrides=known["overrides"],
        budget=SearchBudget(
            max_params=known["max_params"],
            max_macs=known["max_macs"],
            images=ImageShape(*known.get("images", CIFAR10_SHAPE)),  # older studies have none
        ),
        objectives=tuple(known["objectives"]),
        seed=known["seed"],
        sampler=known.get("sampler", ""),
        pruner=known.get("pruner", ""),
    )


def _short(value: Any) -> str:
    return str(value)[:12] if isinstance(value, str) and len(value) > 40 else str(value)

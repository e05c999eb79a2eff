"""Validation of a stored study of cifar-lab when it is read.

A storage may be written by any program, and files may be damaged; errors name the trial and the field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import optuna
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cifar_lab.config.images import CIFAR10_SHAPE
from cifar_lab.errors import UsageError, plain_rule

SETTING = "setting"
"""User attribute of a study that holds its settings."""


class _Kept(BaseModel):
    """Base model that allows fields of later versions."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Data(_Kept):
    name: str
    kind: str
    hash: str
    source: str


class _Setting(_Kept):
    space: str
    space_source: str
    space_digest: str
    scale: str
    data: str
    data_source: _Data
    overrides: dict[str, Any]
    max_params: int = Field(ge=1)
    max_macs: int | None
    images: list[Annotated[int, Field(ge=1)]] = Field(default=[*CIFAR10_SHAPE], min_length=2, max_length=2)
    objectives: list[Literal["accuracy", "params", "macs"]] = Field(min_length=1)
    seed: int = Field(ge=0)
    sampler: str = ""
    pruner: str = ""


class _Counts(_Kept):
    parameters: int
    macs: int


class _Trial(_Kept):
    cell: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    diff: dict[str, Any] | None = None
    counts: _Counts | None = None
    reused: bool = False
    diverged: bool = False
    surplus: bool = False
    infeasible: bool = False
    pruned_at: int | None = None
    error: str | None = None


def require_sound(study: optuna.Study) -> None:
    """Check the content of a study and its trials; a study of another program is left to `setting_of`.

    Raises:
        UsageError: a field has a wrong type or is missing; the message names the trial.
    """
    attributes = study.user_attrs
    if SETTING not in attributes:
        return
    _check(_Setting, attributes[SETTING], f"study '{study.study_name}': damaged: its setting")
    objectives = len(attributes[SETTING]["objectives"])
    if len(study.directions) != objectives:
        raise UsageError(f"study '{study.study_name}': damaged: {objectives} objectives, but other directions")
    for trial in study.get_trials(deepcopy=False):
        where = f"study '{study.study_name}': damaged: trial {trial.number}"
        _check(_Trial, trial.user_attrs, where)
        values = trial.values if trial.state == optuna.trial.TrialState.COMPLETE else None
        if values is not None and len(values) != objectives:
            raise UsageError(f"{where}: {len(values)} values, not {objectives}")


def _check(kind: type[BaseModel], tree: object, where: str) -> None:
    try:
        kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: {field or 'all of it'}: {plain_rule(first['msg'])}") from error

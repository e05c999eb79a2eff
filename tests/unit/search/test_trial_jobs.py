"""The note of a study: which trial each cell is, and which is the baseline's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from cifar_lab.config.baselines import RESNET18
from cifar_lab.config.execution import Execution
from cifar_lab.config.scale import SCALES
from cifar_lab.data import load
from cifar_lab.errors import TrackingError
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import Real
from cifar_lab.search.space import Space
from cifar_lab.search.study import StudySettings
from cifar_lab.search.trial_jobs import TrialJobs
from cifar_lab.store import atomic_file
from cifar_lab.store.invocation import Invocation, RecordedCommand
from cifar_lab.store.invocation_index import read_index

SPACE = Space(
    question="Which rate?",
    baseline=RESNET18.override({"model.width": 32, "model.blocks": (1,)}),
    dimensions=(Real(path="optim.lr", low=0.001, high=1.0, log=True),),
)


@pytest.fixture
def cells(tmp_path: Path, few_images: Path) -> TrialJobs:
    dataset = load(str(few_images))
    data = {"name": dataset.name, "kind": dataset.kind, "hash": dataset.hash, "source": str(few_images)}
    setting = StudySettings(study="tiny", space=SPACE, scale=SCALES["smoke"], data=data, budget=SearchBudget())
    execution = Execution(device="cpu", threads=1, precision="fp32")
    return TrialJobs(
        setting=setting, dataset=dataset, source=str(few_images), runs=tmp_path / "runs", execution=execution
    )


def begin(cells: TrialJobs, study: optuna.Study, rate: float | None, retries: list[int] | None = None) -> Invocation:
    """A trial of that rate, none being the baseline's, is begun; the note as it stands then."""
    attributes = {"retry_history": retries, "failed_trial": retries[0]} if retries else {}
    study.add_trial(optuna.trial.create_trial(value=0.0, system_attrs=attributes))
    number = len(study.trials) - 1
    cells.begin(study, number, cells.job(number, {} if rate is None else {"optim.lr": rate}))
    (note,) = read_index(cells.runs).invocations
    return note


def test_a_trial_that_is_asked_for_again_stands_in_place_of_the_lost_one(cells: TrialJobs) -> None:
    study = optuna.create_study()
    begin(cells, study, None)
    begin(cells, study, 0.02)
    note = begin(cells, study, 0.02, retries=[1])
    assert [cell.variant for cell in note.cells] == ["t000", "t002"]
    assert len({cell.fingerprint for cell in note.cells}) == 2


def test_a_full_disk_is_one_line_and_the_note_stays_as_it_was(
    cells: TrialJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study()
    note = begin(cells, study, None)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_file.os, "fsync", full)
    with pytest.raises(TrackingError, match="No space left on device"):
        begin(cells, study, 0.02)
    assert read_index(cells.runs).invocations == (note,)
    assert {path.suffix for path in (cells.runs / "invocations").iterdir()} == {".json"}


def test_a_study_that_is_gone_on_with_has_the_command_of_now(cells: TrialJobs) -> None:
    study = optuna.create_study()
    first = begin(cells, study, None)
    again = replace(
        cells, _id="", _planned={}, _is_renewed=False, command=RecordedCommand(typed="cifar-lab sweep --trials 9")
    )
    note = begin(again, study, 0.02)
    assert (note.id, note.command) == (first.id, "cifar-lab sweep --trials 9")
    assert [cell.variant for cell in note.cells] == ["t000", "t001"]


def test_the_control_is_the_baselines_trial_also_when_it_was_lost_and_asked_for_again(cells: TrialJobs) -> None:
    study = optuna.create_study()
    assert begin(cells, study, None).control == "t000"
    assert begin(cells, study, 0.02).control == "t000"
    assert begin(cells, study, None, retries=[0]).control == "t002"

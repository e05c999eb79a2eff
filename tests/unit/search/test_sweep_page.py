"""Page of a study in a storage: outcome of each trial, and absence of secrets and test results."""

from __future__ import annotations

import math
import random
import re
import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest
from made import records
from made.spaces import Told

from cifar_lab.cli.sweep_output import print_counts, study_sentence, study_tree
from cifar_lab.config.recipe_file import read_recipe
from cifar_lab.errors import UsageError
from cifar_lab.report.html import render_sweep
from cifar_lab.report.sweep_page import SweepPage
from cifar_lab.search import importance, stored_trials
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.study import NOTE, setting_of
from cifar_lab.search.study_schema import SETTING
from cifar_lab.search.sweep_page import load_sweep_page
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.record_files import DataSource, Provenance

LARGE = {"model.blocks": "[5,5,2]", "model.width": 96, "model.kernel": 5}
TEST = 0.987654
"""An accuracy on test, which must not be seen."""


def loaded(made: Told, runs: Path = Path("nowhere"), storage: str | None = None) -> SweepPage:
    return load_sweep_page(made.study, runs=runs, storage=storage)


def roomy(**changed: Any) -> Told:
    """A study of networks of all sizes, none over the budget."""
    return Told("writeup", budget=SearchBudget(max_params=10**9), **changed)


def one_of_each() -> Told:
    made = Told("writeup")
    made.trained(0.80)
    made.trained(0.0, LARGE)
    made.trained(0.0, {"model.width": 16, "model.kernel": 3, "model.blocks": "[2,2,2]"}, diverged=True)
    small = {"model.width": 24, "model.kernel": 3, "model.blocks": "[3,3,3]"}
    made.trained(0.83, small)
    made.pruned(0.3, 0.4512, params=small)
    made.failed("RuntimeError: out of memory\nTraceback", small)
    made.begun(small)
    return made


# Trials


def test_every_trial_is_what_became_of_it() -> None:
    found = loaded(one_of_each())
    assert [trial.state for trial in found.trials] == [
        "trained", "infeasible", "diverged", "trained", "pruned", "failed", "running",
    ]  # fmt: skip
    assert found.counts == "2 trials with a value, 1 diverged, 1 pruned, 1 infeasible, 1 failed, 1 running"
    assert [trial.value for trial in found.trials] == [0.80, None, None, 0.83, None, None, None]


def test_what_was_withdrawn_or_never_begun_is_not_shown() -> None:
    made = one_of_each()
    made.begun({"model.width": 16}).set_user_attr(stored_trials.SURPLUS, True)
    made.study.enqueue_trial({"model.width": 16})
    assert len(loaded(made).trials) == 7


def test_what_is_over_the_budget_is_infeasible_however_it_was_told() -> None:
    made = Told("writeup")
    made.trained(0.8)
    made.trained(0.9, LARGE)
    made.failed("", LARGE)
    found = loaded(made)
    assert [trial.state for trial in found.trials] == ["trained", "infeasible", "infeasible"]
    assert found.best is found.trials[0]


def test_a_trial_has_its_parameters_and_what_it_differs_in_from_the_baseline() -> None:
    made = roomy(overrides={"train.epochs": 7})
    made.trained(0.8)
    made.trained(0.9, {"optim.name": "adam", "lr / customary": 2.0, "model.width": 64, "model.blocks": "[2,2,2]"})
    first, second = loaded(made).trials
    assert (first.diff, first.parameters) == ({}, 4_697_742)
    assert second.diff is not None
    assert {"optim.name": "adam", "optim.lr": 0.002, "model.blocks": [2, 2, 2]}.items() <= second.diff.items()
    assert not {"model.width", "train.epochs"} & set(second.diff)
    assert second.params["lr / customary"] == 2.0


def test_a_pruned_trial_has_the_last_accuracy_that_is_a_number() -> None:
    made = Told()
    made.pruned(0.3, 0.45, math.nan)
    made.pruned(math.inf)
    made.pruned()
    assert [(trial.pruned_at, trial.last) for trial in loaded(made).trials] == [(3, 0.45), (1, None), (0, None)]


def test_a_failed_trial_says_why_in_one_line_without_a_password() -> None:
    made = Told()
    made.failed("  StoreUnavailable: postgresql://me:s3cret@db/x is away\nTraceback")
    assert loaded(made).trials[0].note == "StoreUnavailable: postgresql://me:***@db/x is away"


def test_infinity_is_no_accuracy() -> None:
    made = Told()
    made.trained(math.inf)
    made.trained(0.5)
    found = loaded(made)
    assert [trial.state for trial in found.trials] == ["diverged", "trained"]
    assert found.best is found.trials[1]


def test_a_stopped_trial_is_counted_as_stopped_and_not_as_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Told()
    made.trained(0.8)
    made.begun()
    made.begun().set_user_attr(stored_trials.CELL, "f" * 64)
    tree = study_tree(made.study, tmp_path)
    assert (tree["running"], tree["stopped"]) == (1, 1)
    page = loaded(made, tmp_path)
    assert [trial.outcome for trial in page.trials] == ["trained", "running", "stopped"]
    assert page.counts == "1 trial with a value, 1 running, 1 stopped"
    assert study_sentence(tree).startswith("1 trials with a value, 1 running, 1 stopped; the best is t000")
    print_counts([made.study], tmp_path, "runs")
    heads, row = (line.split() for line in capsys.readouterr().out.splitlines() if "wide" in line or "study" in line)
    assert (heads[3:5], row[3:5]) == (["running", "stopped"], ["1", "1"])


# The best


def test_what_diverged_is_never_best_whatever_it_had_reached() -> None:
    made = Told()
    made.trained(0.80)
    tuned = made.trained(0.85)
    made.trained(0.95, diverged=True)
    found = loaded(made)
    assert found.best is found.trials[tuned.number]
    assert found.recipe == made.setting.declared(tuned.user_attrs[stored_trials.DIFF]).model_dump(mode="json")


def test_the_recipe_on_the_page_is_one_that_train_takes(tmp_path: Path) -> None:
    made = roomy(overrides={"train.epochs": 7})
    made.trained(0.80)
    best = made.trained(0.85, {"model.blocks": "[2,2,2]"})
    (tmp_path / "best.json").write_text(loaded(made).recipe_text)
    assert read_recipe(tmp_path / "best.json") == made.setting.declared(best.user_attrs[stored_trials.DIFF])
    assert read_recipe(tmp_path / "best.json").train.epochs == 7


def test_a_change_is_by_its_dimension_or_set() -> None:
    made = Told(overrides={"train.epochs": 7})
    made.trained(0.8)
    made.trained(0.9, {"optim.name": "adam", "lr / customary": 2.0})
    changes = {each.path: each for each in loaded(made).changes}
    assert (changes["optim.lr"].baseline, changes["optim.lr"].best, changes["optim.lr"].by) == (
        0.1, 0.002, "lr / customary",
    )  # fmt: skip
    assert (changes["train.epochs"].best, changes["train.epochs"].by) == (7, "set")
    assert changes["optim.name"].by == "optim.name"


def test_a_study_without_a_value_has_a_page_and_no_best() -> None:
    empty, lost = Told(), Told()
    lost.failed("RuntimeError")
    lost.trained(0.0, diverged=True)
    for made in (empty, lost):
        found = loaded(made)
        assert (found.best, found.recipe, found.changes) == (None, None, ())
        assert not [line for line in found.reproduce if "best" in line]
        assert "has a value yet" in render_sweep(found)


def test_two_objectives_are_judged_by_accuracy_first() -> None:
    made = roomy(objectives=("accuracy", "macs"))
    for accuracy in (0.8, 0.9, 0.7):
        made.trained(accuracy)
    found = loaded(made)
    assert [trial.value for trial in found.trials] == [0.8, 0.9, 0.7]
    assert (found.best, found.objectives) == (found.trials[1], ("accuracy", "macs"))
    assert render_sweep(found).count("; front:") == 2


# Importances


def spread(count: int, *, same: bool = False) -> Told:
    made, chance = Told(), random.Random(0)
    for _ in range(count):
        made.trained(0.5 if same else chance.random())
    return made


def test_importances_are_on_the_page_from_the_fewest_trials_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importance.FEWEST, "fanova", 5)
    monkeypatch.setattr(importance, "RESAMPLES", 2)
    few = loaded(spread(4))
    assert few.importances == {}
    assert "4 trials with a value cannot rank" in render_sweep(few)
    enough = loaded(spread(5))
    assert set(enough.importances) == {"fanova"}
    assert "fANOVA 95 %" in render_sweep(enough)
    assert "every trial has the same value" in render_sweep(loaded(spread(5, same=True)))


# How, and again


def noted(runs: Path, made: Told, command: str) -> Told:
    """With the note of its first runner."""
    note = records.invocation(
        id="20260101T000000.000-sweep.wide", ablation="sweep.wide", control="t000", command=command,
        data=DataSource(**made.setting.data), execution={}, provenance=Provenance(git_commit="c0ffee", git_dirty=True),
    )  # fmt: skip
    note.write(runs)
    made.study.set_user_attr(NOTE, note.id)
    return made


def test_how_it_was_searched_is_read_from_the_note(tmp_path: Path) -> None:
    command = "cifar-lab sweep --study wide"
    found = loaded(noted(tmp_path, one_of_each(), command), tmp_path)
    how = dict(found.how)
    assert how["command"] == command
    assert how["executed on"] == "device cpu, threads 2, precision bf16"
    assert found.reproduce[0] == "git checkout c0ffee  # and changes that were not committed"
    assert found.reproduce[1] == command


def test_sampler_and_pruner_are_those_of_the_study_whatever_its_command_says(tmp_path: Path) -> None:
    made = noted(tmp_path, Told(sampler="gp", pruner="median"), "cifar-lab sweep --sampler tpe --pruner none")
    how = dict(loaded(made, tmp_path).how)
    assert (how["sampler"], how["pruner"]) == ("gp", "median")
    assert "--sampler gp --pruner median" in loaded(Told(sampler="gp", pruner="median")).reproduce[0]


def test_an_older_study_has_neither_and_the_page_says_nothing_of_them(tmp_path: Path) -> None:
    made = noted(tmp_path, Told(), "cifar-lab sweep --study wide --sampler gp")
    stored = {
        name: value for name, value in made.study.user_attrs[SETTING].items() if name not in {"sampler", "pruner"}
    }
    made.study.set_user_attr(SETTING, stored)
    assert {"sampler", "pruner"}.isdisjoint(dict(loaded(made, tmp_path).how))


def test_without_a_note_the_command_comes_to_the_same_study() -> None:
    made = roomy(overrides={"train.epochs": 7}, study="my study", objectives=("accuracy", "params"), seed=3)
    made.trained(0.8)
    made.trained(0.9)
    line = loaded(made).reproduce[0]
    assert shlex.split(line) == [
        "cifar-lab", "sweep", "--study", "my study", "--trials", "2", "--space", "writeup",
        "--max-params", "1000000000", "--objective", "accuracy,params", "--seed", "3", "--scale", "small",
        "--data", "cifar10", "train.epochs=7",
    ]  # fmt: skip
    assert "cifar-lab sweep-best 'my study' -o best.json" in loaded(made).reproduce


def test_only_what_was_tuned_is_ablated() -> None:
    made = Told()
    made.trained(0.9)
    made.trained(0.8)
    assert "cifar-lab ablate-best wide" not in loaded(made).reproduce
    made.trained(0.95)
    assert "cifar-lab ablate-best wide" in loaded(made).reproduce


def test_commands_name_the_storage_that_was_typed() -> None:
    made = spread(2)
    assert all(line.endswith("--storage other.journal") for line in loaded(made, storage="other.journal").reproduce
               if "train" not in line)  # fmt: skip
    assert not any("--storage" in line for line in loaded(made).reproduce)


# What must not be said


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:s3cret@db/x", "postgresql://db/x?user=me&password=s3cret", "postgresql://db/x?password=s3cret"],
)
def test_a_password_is_never_on_the_page(url: str, tmp_path: Path) -> None:
    command = shlex.join(["cifar-lab", "sweep", "--storage", url, "--study", "wide"])
    made = noted(tmp_path, one_of_each(), command)
    found = loaded(made, tmp_path, storage=url)
    assert "s3cret" not in render_sweep(found)
    assert "***" in dict(found.how)["storage"]


def test_the_accuracy_on_test_is_never_on_the_page(tmp_path: Path) -> None:
    made = noted(tmp_path, spread(8), "cifar-lab sweep")
    made.trained(0.9, test=TEST, **{stored_trials.CELL: "f" * 64})
    made.trained(0.8, test=TEST)
    record = CellRecord(tmp_path / ("f" * 64))
    records.end(record, {"test/acc": TEST})
    found = render_sweep(loaded(made, tmp_path))
    assert "90.00" in found
    assert not [text for text in (f"{TEST}", f"{TEST:.4f}", f"{100 * TEST:.2f}", f"{100 * TEST:.1f}") if text in found]


def test_no_number_is_left_that_is_none() -> None:
    for made in (one_of_each(), spread(1), spread(8)):
        made.pruned(math.nan)
        found = render_sweep(loaded(made))
        assert re.findall(r"\b(?:nan|NaN|inf|Infinity|None)\b", found) == []


# What is no study


def test_a_study_of_someone_else_is_refused() -> None:
    with pytest.raises(UsageError, match="theirs is no study of cifar-lab"):
        load_sweep_page(optuna.create_study(study_name="theirs"), runs=Path("nowhere"))


def test_a_study_of_a_space_that_has_changed_is_refused() -> None:
    made = Told()
    made.study.set_user_attr(SETTING, {**made.study.user_attrs[SETTING], "space_digest": "0" * 64})
    with pytest.raises(UsageError, match="space 'optimizer' of wide has been changed"):
        loaded(made)


def test_a_setting_that_is_read_back_is_the_one_that_was_given() -> None:
    made = Told("writeup", seed=3, overrides={"train.epochs": 3}, budget=SearchBudget(max_params=10**6, max_macs=10**9))
    assert setting_of(made.study) == made.setting

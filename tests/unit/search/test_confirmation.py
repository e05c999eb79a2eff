"""Confirmation of a search: who is confirmed, with which seeds, and what is made of the cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made import records
from made.spaces import Told

from cifar_lab.cli.sweep_output import print_study, study_tree
from cifar_lab.errors import UsageError
from cifar_lab.report.confirmation_table import confirmation_markdown, confirmation_sentences
from cifar_lab.report.html import render_sweep
from cifar_lab.results.confirmation import Confirmation
from cifar_lab.search import stored_trials
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.confirmation import (
    BASELINE,
    confirm_finalists,
    find_finalists,
    fresh_seeds,
    load_confirmation,
    recipe_of,
)
from cifar_lab.search.study_name import ablation_name
from cifar_lab.search.sweep_page import load_sweep_page, sweep_files
from cifar_lab.search.trial_jobs import trial_name
from cifar_lab.store.ablation_file import NAME
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.record_files import DataSource

RATES = ({"optim.name": "adam", "lr / customary": 1.0}, {"optim.name": "muon", "lr / customary": 1.0},
         {"optim.name": "muon", "lr / customary": 2.0})  # fmt: skip
PLAIN = {
    "model.blocks": "[2,2,2]", "model.kernel": 3, "model.shortcut_kernel": 1, "model.se.placement": "none",
    "optim.name": "sgd", "lr / customary": 1.0, "decay / customary": 1.0, "train.batch_size": 128, "data.mixup": 0.0,
    "data.cutmix": 0.0, "clip": "none", "optim.lookahead.enabled": False,
}  # fmt: skip
"""Parameters of a small network in the space `writeup`, without its width."""
SEARCHED = (0.80, 0.90, 0.84, 0.86)
"""Values of the baseline, and of the three candidates."""


@pytest.fixture
def wide() -> Told:
    made = Told()
    made.trained(SEARCHED[0])
    for value, params in zip(SEARCHED[1:], RATES, strict=True):
        made.trained(value, params)
    return made


def trained(
    made: Told, runs: Path, values: Mapping[str, Mapping[int, float | None]], *, test: float = 0.01, **changed: Any
) -> None:
    """Write the cells of a confirmation: accuracy on val by variant and seed, None for a diverged one, and its note."""
    refs = []
    for name, own in values.items():
        trial = next((each for each in made.study.trials if trial_name(each.number) == name), None)
        digest = made.setting.recipe(trial.user_attrs["diff"] if trial is not None else {}).digest()
        for seed, value in own.items():
            fingerprint = f"{len(refs):02}{seed:02}{ord(name[-1]):04}".ljust(64, "0")
            refs.append(records.cell_ref(fingerprint, name, seed, recipe=digest))
            record = CellRecord(runs / fingerprint)
            if value is None:
                records.end(record, status="diverged")
            else:
                records.end(record, {"val/acc": value, "test/acc": value + test})
    fields = {
        "id": "20260101T000000.000-confirm_wide", "ablation": "confirm_wide", "control": BASELINE,
        "data": DataSource(**made.setting.data), "scale": made.setting.scale.name, "design": "moderated",
    }  # fmt: skip
    records.invocation(*refs, **(fields | changed)).write(runs)


CLOSE = {
    BASELINE: {1: 0.800, 2: 0.803, 3: 0.797, 4: 0.801},
    "t001": {1: 0.820, 2: 0.824, 3: 0.818, 4: 0.822},
    "t003": {1: 0.860, 2: 0.863, 3: 0.858, 4: 0.861},
}


def confirmed(made: Told, runs: Path) -> Confirmation:
    found = load_confirmation(made.study, runs)
    assert found is not None
    return found


# Who is confirmed


def test_the_best_trials_are_confirmed_the_best_first_and_the_baseline_is_none_of_them(wide: Told) -> None:
    assert [trial.number for trial in find_finalists(wide.study, wide.setting, 2)] == [1, 3]
    assert [trial.number for trial in find_finalists(wide.study, wide.setting, 9)] == [1, 3, 2]


def test_of_equal_trials_the_smallest_is_best_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Told("writeup", budget=SearchBudget(max_params=10**9))
    made.trained(0.8)
    for width in (32, 24, 16, 24, 16):
        made.trained(0.8, {"model.width": width, **PLAIN})
    best = stored_trials.best(made.study)
    assert best is not None
    assert [trial.number for trial in stored_trials.pareto_front(made.study)] == [best.number] == [3]
    assert [trial.number for trial in find_finalists(made.study, made.setting, 2)] == [3, 2]
    page = load_sweep_page(made.study, runs=tmp_path)
    assert page.best is page.trials[3]
    assert json.loads(sweep_files(made.study, tmp_path)["best.json"])["model"]["width"] == 16
    assert study_tree(made.study, tmp_path)["best"]["recipe"] == page.recipe
    print_study(made.study, tmp_path)
    assert "t003 best" in capsys.readouterr().out


def test_a_recipe_that_was_tried_twice_is_confirmed_once(wide: Told) -> None:
    wide.study.add_trial(wide.study.trials[1])
    assert [trial.number for trial in find_finalists(wide.study, wide.setting, 9)] == [1, 3, 2]


def test_neither_diverged_nor_infeasible_nor_pruned_trials_are_confirmed(wide: Told) -> None:
    wide.trained(0.99, {"optim.name": "adamw"}, diverged=True)
    wide.pruned(0.99, params={"optim.name": "adamw"})
    assert {trial.number for trial in find_finalists(wide.study, wide.setting, 9)} == {1, 2, 3}


def test_a_study_of_its_baseline_alone_has_nothing_to_confirm() -> None:
    made = Told()
    made.trained(0.8)
    with pytest.raises(UsageError, match="no trial of wide with a value differs from its baseline"):
        find_finalists(made.study, made.setting, 3)


def test_a_finalist_trains_the_recipe_of_its_trial(wide: Told) -> None:
    finalists = find_finalists(wide.study, wide.setting, 3)
    made = confirm_finalists(wide.setting, finalists, (1, 2))
    assert (made.name, made.control, made.seeds) == ("confirm_wide", BASELINE, (1, 2))
    for trial in finalists:
        name = trial_name(trial.number)
        declared = wide.setting.declared(trial.user_attrs["diff"]).digest()
        assert made.recipe(name).override(wide.setting.overrides).digest() == declared
        assert recipe_of(wide.study, wide.setting, name).digest() == declared
    assert made.recipe(BASELINE) == wide.setting.space.baseline


@pytest.mark.parametrize(
    ("asked", "said"),
    [([0, 1], "seed 0 is the search's own, and a confirmation takes fresh ones; for example 1-5"), ([4], "one seed")],
)
def test_seeds_of_the_search_and_single_ones_are_refused(asked: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=f"--confirm-seeds: {said}"):
        fresh_seeds(0, asked, "--confirm-seeds")


def test_by_default_the_seeds_after_the_searchs_are_taken() -> None:
    assert fresh_seeds(3, None, "--seeds") == (4, 5, 6, 7, 8)


@pytest.mark.parametrize("study", ["wide", "Wide", "my study", "w" * 80, "a.b_c+d-e"])
def test_any_study_has_a_valid_ablation_of_its_own(study: str) -> None:
    others = {ablation_name("confirm", other) for other in ("wide!", "WIDE", "my-study", "w" * 79)}
    name = ablation_name("confirm", study)
    assert NAME.fullmatch(name)
    assert name not in others
    assert ablation_name("confirm", "wide") == "confirm_wide"


# What is made of the cells


def test_ranks_are_by_fresh_seeds_on_val_and_verdicts_by_test(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, CLOSE)
    found = confirmed(wide, tmp_path)
    assert [(each.variant, each.rank, each.ranks) for each in found.recipes] == [
        ("t003", 1, (1, 1)), ("t001", 2, (2, 2)), (BASELINE, 3, (3, 3)),
    ]  # fmt: skip
    assert [each.row.verdict for each in found.recipes] == ["better", "better", None]
    assert found.recipes[0].row.mean == pytest.approx(0.8705)
    assert found.recipes[0].mean == pytest.approx(0.8605)
    assert [row.variant for row in found.comparison.rows] == ["t003", "t001", BASELINE]


def test_the_winners_curse_is_what_the_search_saw_less_the_mean_of_fresh_seeds(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, CLOSE)
    found = {each.variant: each for each in confirmed(wide, tmp_path).recipes}
    assert found["t001"].winners_curse == pytest.approx(0.90 - 0.821)
    assert found[BASELINE].winners_curse == pytest.approx(0.80 - 0.80025)
    for name, holds_zero in (("t001", False), (BASELINE, True)):
        interval = found[name].winners_curse_interval
        assert interval is not None
        assert (interval[0] <= 0 <= interval[1]) is holds_zero
    (sentence,) = [line for line in confirmation_sentences(confirmed(wide, tmp_path)) if "curse" in line]
    assert sentence.startswith("The search saw 90.00 % of t001, the best of 4 trials; fresh seeds have 82.10 %")


def test_a_diverged_seed_counts_as_guessing_and_no_verdict_is_by_survivors(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, {**CLOSE, "t003": {**CLOSE["t003"], 4: None}})
    found = {each.variant: each for each in confirmed(wide, tmp_path).recipes}
    assert found["t003"].values[4] == pytest.approx(0.5), "records here have two classes"
    assert found["t003"].rank == 3
    assert found["t003"].row.verdict == "undecided"


def test_of_equal_means_the_lower_trial_is_first_and_the_baseline_before_it(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, {name: {1: 0.8, 2: 0.8} for name in ("t003", "t001", BASELINE)})
    found = confirmed(wide, tmp_path)
    assert [(each.variant, each.rank) for each in found.recipes] == [(BASELINE, 1), ("t001", 2), ("t003", 3)]


def test_cells_that_are_missing_are_counted(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, CLOSE)
    for path in tmp_path.glob("*/result.json"):
        if path.parent.name.startswith(("08", "09", "10", "11")):
            path.unlink()
    found = confirmed(wide, tmp_path)
    assert found.unfinished == 4
    assert (found.recipes[-1].variant, found.recipes[-1].rank, found.recipes[-1].mean) == ("t003", None, None)
    assert confirmation_sentences(found)[-1].startswith("4 cells not finished")


def test_a_study_that_was_not_confirmed_has_none(wide: Told, tmp_path: Path) -> None:
    assert load_confirmation(wide.study, tmp_path) is None


def test_cells_of_another_study_of_this_name_and_of_the_searchs_seed_are_ignored(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, {**CLOSE, "t001": {**CLOSE["t001"], 0: 0.99}})
    assert 0 not in confirmed(wide, tmp_path).recipes[1].values
    other = Told()
    other.trained(0.5)
    other.trained(0.6, RATES[2])
    assert load_confirmation(other.study, tmp_path) is None


# What is shown


def test_the_page_begins_with_what_fresh_seeds_say(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, CLOSE)
    page = load_sweep_page(wide.study, runs=tmp_path)
    text = render_sweep(page)
    assert text.index("First on val over 4 fresh seeds: t003 with 86.05 %.") < text.index("Best of wide: 90.00 %")
    assert "On test, better than the baseline: t003, t001." in text
    assert "The best trials with fresh seeds" in text
    assert "cifar-lab sweep-confirm wide --top 2 --seeds 1,2,3,4" in page.reproduce
    assert not [line for _, line in page.remedies if "sweep-confirm" in line]


def test_the_json_and_the_markdown_have_every_recipe(wide: Told, tmp_path: Path) -> None:
    trained(wide, tmp_path, CLOSE)
    found = confirmed(wide, tmp_path)
    tree = found.as_dict()
    assert (tree["winner"], tree["better_than_baseline"]) == ("t003", ["t003", "t001"])
    assert tree["seeds"] == [1, 2, 3, 4]
    keys = {"variant", "rank", "ranks", "searched", "mean", "winners_curse", "winners_curse_interval", "test"}
    assert all(keys <= set(each) for each in tree["recipes"])
    assert confirmation_markdown(found).count("| t003 |") == 2

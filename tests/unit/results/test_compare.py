"""Comparisons from records on disk: the cells read, their numbers, and missing ones."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.errors import TrackingError
from cifar_lab.report import table_notes
from cifar_lab.results.compare import compare
from cifar_lab.results.comparison import Comparison, ComparisonRow
from cifar_lab.store.record_files import DataSource

SYNTHETIC = DataSource(name="synthetic, not CIFAR-10", kind="synthetic", hash="5" * 64, source="synthetic")
CPU = {"device": "cpu", "threads": 2, "precision": "bf16", "compile": False}
R16, R4 = (0.90, 0.92, 0.91), (0.89, 0.90, 0.915)


def rows(comparison: Comparison) -> dict[str, ComparisonRow]:
    return {row.variant: row for row in comparison.rows}


# The numbers


def test_means_deviations_and_paired_differences(runs: Any) -> None:
    runs.study()
    found = rows(compare(runs.folder, "se_ratio"))
    differences = [a - b for a, b in zip(R4, R16, strict=True)]
    assert found["r16"].n == found["r4"].n == found["r4"].pairs == 3
    assert found["r16"].mean == pytest.approx(statistics.fmean(R16))
    assert found["r16"].std == pytest.approx(statistics.stdev(R16))
    assert found["r4"].difference == pytest.approx(statistics.fmean(differences))
    assert found["r4"].difference_std == pytest.approx(statistics.stdev(differences))


def test_the_control_is_compared_with_nothing(runs: Any) -> None:
    runs.study()
    control = rows(compare(runs.folder, "se_ratio"))["r16"]
    assert (control.difference, control.difference_std, control.pairs) == (None, None, 0)


def test_variants_stand_in_the_order_in_which_they_were_asked_for(runs: Any) -> None:
    names = ["none", "r16", "r8", "r4"]
    runs.ask([runs.cell(name, seed) for seed in (0, 1) for name in names])
    assert [row.variant for row in compare(runs.folder, "se_ratio").rows] == names


def test_what_a_cell_costs_is_told(runs: Any) -> None:
    runs.study()
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.parameters, row.parameters_trained, row.macs) == (4_697_742, 295_000, 50_000_000)
    assert (row.seconds, row.images_seen) == (60.0, 1000.0)


def test_under_the_writeups_protocol_the_metric_is_the_peak_on_test(runs: Any) -> None:
    runs.study(protocol="writeup")
    comparison = compare(runs.folder, "se_ratio")
    assert (comparison.protocol, comparison.metric) == ("writeup", "test/peak_acc")
    assert rows(comparison)["r16"].mean == pytest.approx(statistics.fmean(R16) + 0.01)


def test_the_difference_is_paired_on_the_shared_seeds_only(runs: Any) -> None:
    runs.study(r16=(0.90, 0.92), r4=(0.89, 0.90, 0.10, 0.10))
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.n, row.pairs) == (4, 2)
    assert row.difference == pytest.approx(-0.015)


def test_a_study_without_its_control_has_no_differences(runs: Any) -> None:
    cells = [runs.cell("r4", seed) for seed in range(2)]
    for asked in cells:
        runs.end(asked, 0.9)
    runs.ask(cells)
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.n, row.difference, row.pairs) == (2, None, 0)


def test_how_the_numbers_were_made_is_what_the_cells_wrote_down(runs: Any) -> None:
    runs.study()
    made = "\n".join(compare(runs.folder, "se_ratio").made)
    for word in ("`cifar-lab run-ablation se_ratio`", "EPYC", "torch 2.9.1", "bf16", "0123456789ab", "not committed"):
        assert word in made
    assert "6 cells, 0.1 hours" in made
    assert made.count("EPYC") == 1


def test_in_a_chain_each_stage_is_compared_with_the_one_before(runs: Any) -> None:
    accuracies = {"s1": 0.5, "s2": 0.7, "s3": 0.6}
    for stage, accuracy in accuracies.items():
        runs.end(runs.cell(stage, 0), accuracy)
    runs.ask([runs.cell(stage, 0) for stage in accuracies], control="s1", against={"s2": "s1", "s3": "s2"})
    made = compare(runs.folder, "se_ratio")
    assert made.chain
    assert [row.against for row in made.rows] == [None, "s1", "s2"]
    assert [row.difference for row in made.rows] == [None, pytest.approx(0.2), pytest.approx(-0.1)]
    assert "the stage before" in table_notes.header(made)[1]


# What is not there


def test_missing_running_failed_and_diverged_cells_are_counted_and_in_no_mean(runs: Any) -> None:
    cells = [runs.cell("r4", seed) for seed in range(7)]
    runs.end(cells[0], 0.90)
    runs.end(cells[1], 0.92)
    runs.end(cells[2], 0.0, status="diverged")
    records.fail(runs.record(cells[3]), "out of memory")
    runs.ask([*cells, *(runs.cell("r16", seed) for seed in range(7))])
    with runs.record(cells[4]).lock().acquire():
        found = rows(compare(runs.folder, "se_ratio"))
    row = found["r4"]
    assert (row.n, row.mean) == (2, pytest.approx(0.91))
    assert (row.missing, row.running, row.failed, row.diverged) == (2, 1, 1, 1)
    nothing = found["r16"]
    assert (nothing.n, nothing.mean, nothing.std, nothing.missing) == (0, None, None, 7)
    assert (nothing.seconds, nothing.images_seen) == (None, None)


def test_a_cell_that_failed_and_was_then_finished_is_finished(runs: Any) -> None:
    asked = runs.cell("r16", 0)
    records.fail(runs.record(asked), "out of memory")
    runs.end(asked, 0.9)
    runs.ask([asked])
    row = rows(compare(runs.folder, "se_ratio"))["r16"]
    assert (row.n, row.failed) == (1, 0)


def test_of_one_seed_there_is_no_deviation(runs: Any) -> None:
    runs.study(r16=(0.9,), r4=(0.8,))
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.mean, row.std, row.difference_std) == (0.8, None, None)
    assert row.difference == pytest.approx(-0.1)


def test_a_row_that_mixes_executions_is_marked(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in (0, 1)]
    for asked in cells:
        other = {**CPU, "threads": 1} if (asked.variant, asked.seed) == ("r4", 1) else CPU
        runs.end(asked, 0.9, execution=other)
    runs.ask(cells)
    found = rows(compare(runs.folder, "se_ratio"))
    assert (found["r16"].mixed_execution, found["r4"].mixed_execution) == (False, True)


# Which invocations are read


def test_the_latest_invocation_is_taken_and_named(runs: Any) -> None:
    runs.study(scale="small")
    latest = runs.study(r16=(0.5,), r4=(0.6,), recipe="smoke", scale="smoke", data=SYNTHETIC)
    comparison = compare(runs.folder, "se_ratio")
    assert (comparison.invocation, comparison.scale, comparison.data) == (latest, "smoke", SYNTHETIC.name)
    assert comparison.invocations == 1
    assert rows(comparison)["r16"].mean == 0.5


def test_earlier_invocations_of_the_setting_join_it(runs: Any) -> None:
    cells = {(name, seed): runs.cell(name, seed) for name in ("r16", "r4") for seed in range(3)}
    for asked in cells.values():
        runs.end(asked, 0.9 + asked.seed / 100)
    runs.ask([cells["r16", 0], cells["r4", 0]])
    runs.ask([cells["r16", 1], cells["r4", 1]])
    runs.ask([runs.cell("r16", 9)], ablation="lookahead")
    latest = runs.ask([cells["r4", 0], cells["r4", 2]])
    comparison = compare(runs.folder, "se_ratio")
    assert (comparison.invocation, comparison.invocations) == (latest, 3)
    assert {name: (row.n, row.pairs) for name, row in rows(comparison).items()} == {"r16": (2, 0), "r4": (3, 2)}


def test_cells_of_a_recipe_that_has_changed_since_are_no_replicates(runs: Any) -> None:
    runs.study(r16=(0.1, 0.1, 0.1, 0.1), r4=(0.1, 0.1, 0.1, 0.1), recipe="as it was")
    runs.study(r16=(0.9, 0.9), r4=(0.8, 0.8), recipe="as it is")
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.n, row.mean, row.missing) == (2, pytest.approx(0.8), 0)


def test_of_two_cells_of_one_variant_and_seed_the_later_counts(runs: Any) -> None:
    """Only the fingerprint differs, not the recipe, as after a change of the numerics."""
    before = runs.cell("r16", 0)
    after = replace(before, fingerprint="f" * 64)
    runs.end(after, 0.9)
    runs.ask([before])
    runs.ask([after])
    row = rows(compare(runs.folder, "se_ratio"))["r16"]
    assert (row.n, row.mean, row.missing) == (1, 0.9, 0)


@pytest.mark.parametrize(
    ("asked", "mean"),
    [
        ({}, 0.4),
        ({"scale": "smoke"}, 0.3),
        ({"scale": "small"}, 0.4),
        ({"scale": "small", "data": "cifar10"}, 0.2),
        ({"data": "cifar10"}, 0.2),
        ({"data": "CIFAR-10"}, 0.2),
        ({"data": "synthetic"}, 0.4),
        ({"overrides": {"train.epochs": 3}}, 0.1),
        ({"scale": "small", "data": "cifar10", "overrides": {"train.epochs": 3}}, 0.1),
    ],
)
def test_scale_data_and_overrides_select_another_setting(runs: Any, asked: dict[str, Any], mean: float) -> None:
    runs.study(r16=(0.1,), r4=(0.1,), recipe="a", overrides={"train.epochs": 3})
    runs.study(r16=(0.2,), r4=(0.2,), recipe="b")
    runs.study(r16=(0.3,), r4=(0.3,), recipe="c", scale="smoke", data=SYNTHETIC)
    runs.study(r16=(0.4,), r4=(0.4,), recipe="d", data=SYNTHETIC)
    assert rows(compare(runs.folder, "se_ratio", **asked))["r16"].mean == mean


def test_data_at_a_path_is_found_by_the_path_however_it_is_typed(
    runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs.study(data=DataSource(name="pets", kind="path", hash="a" * 64, source=str(tmp_path / "pets")))
    runs.study(recipe="b", data=SYNTHETIC)
    for typed in ("pets", "./pets", str(tmp_path / "pets")):
        assert compare(runs.folder, "se_ratio", data=typed).data == "pets"


def test_other_settings_that_match_are_listed_once_each(runs: Any) -> None:
    first = runs.study(recipe="a", overrides={"train.epochs": 3})
    runs.study(recipe="b", scale="smoke", data=SYNTHETIC)
    again = runs.study(recipe="b", scale="smoke", data=SYNTHETIC)
    runs.study(recipe="c")
    others = compare(runs.folder, "se_ratio").others
    assert others == (
        f"--invocation {first} (--scale small --data cifar10 train.epochs=3)",
        f"--invocation {again} (--scale smoke --data synthetic)",
    )
    assert compare(runs.folder, "se_ratio", scale="smoke").others == ()


def test_another_studys_invocations_are_not_mixed_in(runs: Any) -> None:
    runs.study()
    runs.study(r16=(0.1,), r4=(0.1,), recipe="other", ablation="lookahead")
    assert rows(compare(runs.folder, "se_ratio"))["r16"].n == 3


def test_a_setting_without_overrides_is_chosen_by_the_id_of_any_of_its_invocations(runs: Any) -> None:
    """Overrides that are not there match any; an id does not."""
    first = runs.study(r16=(0.1,), r4=(0.1,))
    runs.study(r16=(0.2,), r4=(0.2,), recipe="b", overrides={"train.epochs": 3})
    chosen = compare(runs.folder, "se_ratio", invocation=first)
    assert (chosen.overrides, chosen.invocation, chosen.others) == ({}, first, ())
    assert rows(chosen)["r16"].mean == 0.1


def test_a_setting_that_only_its_baseline_tells_from_a_later_one_is_chosen_by_id(runs: Any) -> None:
    first = runs.study(r16=(0.1,), r4=(0.1,), baseline="old/1")
    runs.study(r16=(0.2,), r4=(0.2,), recipe="b", baseline="new/1")
    assert f"--invocation {first} (--scale small --data cifar10)" in compare(runs.folder, "se_ratio").others
    assert rows(compare(runs.folder, "se_ratio", invocation=first))["r16"].mean == 0.1


def test_a_setting_that_is_chosen_by_id_has_all_its_seeds(runs: Any) -> None:
    """Seeds of later invocations are included; the latest invocation is named."""
    for seed in (0, 1):
        runs.end(runs.cell("r16", seed), 0.9)
    first = runs.ask([runs.cell("r16", 0)])
    second = runs.ask([runs.cell("r16", 1)])
    runs.study(recipe="b", scale="smoke", data=SYNTHETIC)
    chosen = compare(runs.folder, "se_ratio", invocation=first)
    assert (rows(chosen)["r16"].n, chosen.invocation, chosen.invocations) == (2, second, 2)


# Refusals


def refusal(runs: Any, name: str, **asked: Any) -> str:
    with pytest.raises(TrackingError) as caught:
        compare(runs.folder, name, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_study_that_has_not_been_run_is_refused_with_the_nearest_that_has(runs: Any) -> None:
    runs.study()
    runs.study(ablation="noise_floor")
    assert "did you mean 'se_ratio'?" in refusal(runs, "se_ratios")
    message = refusal(runs, "qqqq")
    assert "'qqqq'" in message
    assert "one of: noise_floor, se_ratio" in message


def test_a_runs_folder_that_is_not_there_holds_nothing(runs: Any) -> None:
    message = refusal(runs, "se_ratio")
    assert "se_ratio" in message
    assert str(runs.folder) in message
    assert not runs.folder.exists()


@pytest.mark.parametrize(
    "asked", [{"scale": "writeup"}, {"data": "synthetic"}, {"overrides": {"train.epochs": 4}}, {"data": "cifra10"}]
)
def test_a_setting_that_was_never_run_is_refused_with_those_that_were(runs: Any, asked: dict[str, Any]) -> None:
    runs.study()
    runs.study(recipe="b", overrides={"train.epochs": 3})
    message = refusal(runs, "se_ratio", **asked)
    assert "--scale small --data cifar10" in message
    assert "train.epochs=3" in message


def test_an_invocation_that_is_not_there_is_refused_with_the_nearest(runs: Any) -> None:
    first = runs.study()
    other = runs.study(recipe="b", ablation="lookahead")
    message = refusal(runs, "se_ratio", invocation=first[:-1])
    assert message == f"invocation {first[:-1]}: no such invocation; did you mean '{first}'?"
    assert refusal(runs, "se_ratio", invocation=other) == f"invocation {other}: of 'lookahead', not of 'se_ratio'"
    assert "did you mean 'se_ratio'?" in refusal(runs, "se_ratios", invocation=first)


# JSON


def test_the_json_has_the_keys_of_the_interface(runs: Any) -> None:
    runs.study()
    tree = json.loads(json.dumps(compare(runs.folder, "se_ratio").as_dict(), allow_nan=False))
    assert {"ablation", "scale", "metric", "control", "rows"} <= set(tree)
    assert (tree["ablation"], tree["scale"], tree["metric"], tree["control"]) == (
        "se_ratio",
        "small",
        "test/acc",
        "r16",
    )
    keys = {"variant", "n", "mean", "std", "difference", "interval", "p_value", "verdict"}
    assert all(keys <= set(row) for row in tree["rows"])
    assert [row["variant"] for row in tree["rows"]] == ["r16", "r4"]


def test_the_json_of_a_study_in_which_nothing_is_done(runs: Any) -> None:
    runs.ask([runs.cell("r16", 0), runs.cell("r4", 0)])
    tree = json.loads(json.dumps(compare(runs.folder, "se_ratio").as_dict(), allow_nan=False))
    assert [(row["n"], row["mean"], row["missing"]) for row in tree["rows"]] == [(0, None, 1), (0, None, 1)]


def test_a_baseline_that_has_changed_since_begins_a_comparison_of_its_own(runs: Any) -> None:
    runs.study(baseline="old/1")
    edited = runs.cell("r4", 0, recipe="edited")
    runs.end(edited, 0.99)
    runs.ask([edited], baseline="new/1")
    (row,) = compare(runs.folder, "se_ratio").rows
    assert row.variant == "r4"
    assert row.difference is None, "a new variant was compared with a control on the old baseline"


@pytest.mark.parametrize(
    "otherwise", [{"device": "cuda"}, {"compile": True}, {"threads": 9}, {"precision": "other"}], ids=str
)
def test_rows_that_ran_otherwise_than_the_control_are_marked(runs: Any, otherwise: dict[str, Any]) -> None:
    cells = [runs.cell("r16", 0), runs.cell("r4", 0), runs.cell("r2", 0)]
    for cell, execution in zip(cells, (CPU, {**CPU, **otherwise}, CPU), strict=True):
        runs.end(cell, 0.9, execution=execution)
    runs.ask(cells)
    found = rows(compare(runs.folder, "se_ratio"))
    assert [found[name].mixed_execution for name in ("r16", "r4", "r2")] == [False, True, False]


def test_a_precision_that_the_recipe_names_mixes_nothing_and_one_that_the_device_chose_does(runs: Any) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4", "r2") for seed in (0, 1)]
    for cell in cells:
        named = {"r16": "fp32", "r4": "bf16", "r2": "auto"}[cell.variant]
        used = named if named != "auto" else ("fp32", "bf16")[cell.seed]
        runs.end(cell, 0.9, precision=named, execution={**CPU, "precision": used})
    runs.ask(cells)
    found = rows(compare(runs.folder, "se_ratio"))
    assert [found[name].mixed_execution for name in ("r16", "r4", "r2")] == [False, False, True]

"""From what lies on disk to a comparison: which cells are read, what they say, and what is missing."""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.errors import TrackingError
from cifar_lab.report.tables import Comparison, Row
from cifar_lab.run.results import compare
from cifar_lab.tracking.invocation import Asked, Invocation
from cifar_lab.tracking.record import Record

CIFAR10 = {"name": "CIFAR-10", "kind": "cifar10", "hash": "c" * 64, "source": "cifar10"}
SYNTHETIC = {"name": "synthetic, not CIFAR-10", "kind": "synthetic", "hash": "5" * 64, "source": "synthetic"}
CPU = {"device": "cpu", "threads": 2, "precision": "bf16", "compile": False}
PROVENANCE = {
    "git_commit": "0123456789abcdef" * 2 + "01234567",
    "git_dirty": True,
    "versions": {"torch": "2.9.1"},
    "hardware": {"processor": "EPYC", "cores": 2, "memory_gib": 8, "gpus": []},
}
R16, R4 = (0.90, 0.92, 0.91), (0.89, 0.90, 0.915)


class Runs:
    """A runs folder, and the notes and cells that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked_so_far = folder, 0

    def cell(self, variant: str, seed: int, recipe: str = "") -> Asked:
        """A cell that is asked for; its fingerprint follows from variant, seed and recipe."""
        digest = hashlib.sha256(f"{recipe}/{variant}".encode()).hexdigest()
        return Asked(
            variant=variant, seed=seed, fingerprint=hashlib.sha256(f"{digest}/{seed}".encode()).hexdigest(),
            recipe=digest, parameters=4_697_742, parameters_trained=295_000, macs=50_000_000,
        )  # fmt: skip

    def record(self, asked: Asked, execution: dict[str, Any] = CPU) -> Record:
        """The record of a cell that was begun."""
        record = Record(self.folder / asked.fingerprint)
        record.folder.mkdir(parents=True, exist_ok=True)
        tree = {"fingerprint": asked.fingerprint, "seed": asked.seed, "execution": execution, "provenance": PROVENANCE}
        record.write_cell(tree)
        return record

    def end(self, asked: Asked, accuracy: float, *, status: str = "finished", execution: dict[str, Any] = CPU) -> None:
        """`asked` came to its end with this test accuracy; its peak was a little higher."""
        metrics = {"test/acc": accuracy, "test/peak_acc": accuracy + 0.01, "seconds": 60.0, "images_seen": 1000.0}
        if status == "diverged":
            metrics = {"seconds": 6.0, "images_seen": 100.0}
        self.record(asked, execution).write_result(
            {"status": status, "epoch": 10, "step": 0, "time": 1_790_000_000_000, "metrics": metrics}
        )

    def ask(self, cells: list[Asked], **changed: Any) -> str:
        """One more call of `run-ablation` for `cells`, later than those before; its id."""
        self.asked_so_far += 1
        fields: dict[str, Any] = {
            "id": f"20261122T2100{self.asked_so_far:02}.000-{changed.get('ablation', 'se_ratio')}",
            "ablation": "se_ratio",
            "question": "Which reduction?",
            "factors": ("model.se.reduction",),
            "control": "r16",
            "scale": "small",
            "protocol": "holdout",
            "data": CIFAR10,
            "overrides": {},
            "command": "cifar-lab run-ablation se_ratio",
            "execution": CPU,
        }
        Invocation(**(fields | changed), cells=tuple(cells)).write(self.folder)
        return str((fields | changed)["id"])

    def study(self, r16: tuple[float, ...] = R16, r4: tuple[float, ...] = R4, recipe: str = "", **changed: Any) -> str:
        """Ask for as many seeds of `r16` and `r4` as there are accuracies, and end them so."""
        ends = {self.cell(name, seed, recipe): value for name, values in (("r16", r16), ("r4", r4))
                for seed, value in enumerate(values)}  # fmt: skip
        for asked, value in ends.items():
            self.end(asked, value)
        return self.ask(list(ends), **changed)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def rows(comparison: Comparison) -> dict[str, Row]:
    return {row.variant: row for row in comparison.rows}


# The numbers


def test_means_deviations_and_paired_differences(runs: Runs) -> None:
    runs.study()
    found = rows(compare(runs.folder, "se_ratio"))
    differences = [a - b for a, b in zip(R4, R16, strict=True)]
    assert found["r16"].n == found["r4"].n == found["r4"].pairs == 3
    assert found["r16"].mean == pytest.approx(statistics.fmean(R16))
    assert found["r16"].std == pytest.approx(statistics.stdev(R16))
    assert found["r4"].difference == pytest.approx(statistics.fmean(differences))
    assert found["r4"].difference_std == pytest.approx(statistics.stdev(differences))


def test_the_control_is_compared_with_nothing(runs: Runs) -> None:
    runs.study()
    control = rows(compare(runs.folder, "se_ratio"))["r16"]
    assert (control.difference, control.difference_std, control.pairs) == (None, None, 0)


def test_variants_stand_in_the_order_in_which_they_were_asked_for(runs: Runs) -> None:
    names = ["none", "r16", "r8", "r4"]
    runs.ask([runs.cell(name, seed) for seed in (0, 1) for name in names])
    assert [row.variant for row in compare(runs.folder, "se_ratio").rows] == names


def test_what_a_cell_costs_is_told(runs: Runs) -> None:
    runs.study()
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.parameters, row.parameters_trained, row.macs) == (4_697_742, 295_000, 50_000_000)
    assert (row.seconds, row.images_seen) == (60.0, 1000.0)


def test_under_the_writeups_protocol_the_metric_is_the_peak_on_test(runs: Runs) -> None:
    runs.study(protocol="writeup")
    comparison = compare(runs.folder, "se_ratio")
    assert (comparison.protocol, comparison.metric) == ("writeup", "test/peak_acc")
    assert rows(comparison)["r16"].mean == pytest.approx(statistics.fmean(R16) + 0.01)


def test_the_difference_is_paired_on_the_shared_seeds_only(runs: Runs) -> None:
    runs.study(r16=(0.90, 0.92), r4=(0.89, 0.90, 0.10, 0.10))
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.n, row.pairs) == (4, 2)
    assert row.difference == pytest.approx(-0.015)


def test_a_study_without_its_control_has_no_differences(runs: Runs) -> None:
    cells = [runs.cell("r4", seed) for seed in range(2)]
    for asked in cells:
        runs.end(asked, 0.9)
    runs.ask(cells)
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.n, row.difference, row.pairs) == (2, None, 0)


def test_how_the_numbers_were_made_is_what_the_cells_wrote_down(runs: Runs) -> None:
    runs.study()
    made = "\n".join(compare(runs.folder, "se_ratio").made)
    for word in ("`cifar-lab run-ablation se_ratio`", "EPYC", "torch 2.9.1", "bf16", "0123456789ab", "not committed"):
        assert word in made
    assert "6 cells, 0.1 hours" in made
    assert made.count("EPYC") == 1


# What is not there


def test_missing_running_failed_and_diverged_cells_are_counted_and_in_no_mean(runs: Runs) -> None:
    cells = [runs.cell("r4", seed) for seed in range(7)]
    runs.end(cells[0], 0.90)
    runs.end(cells[1], 0.92)
    runs.end(cells[2], 0.0, status="diverged")
    runs.record(cells[3]).write_failure({"error": "out of memory", "trace": ""})
    runs.ask([*cells, *(runs.cell("r16", seed) for seed in range(7))])
    with runs.record(cells[4]).lock().acquire():
        found = rows(compare(runs.folder, "se_ratio"))
    row = found["r4"]
    assert (row.n, row.mean) == (2, pytest.approx(0.91))
    assert (row.missing, row.running, row.failed, row.diverged) == (2, 1, 1, 1)
    nothing = found["r16"]
    assert (nothing.n, nothing.mean, nothing.std, nothing.missing) == (0, None, None, 7)
    assert (nothing.seconds, nothing.images_seen) == (None, None)


def test_a_cell_that_failed_and_was_then_finished_is_finished(runs: Runs) -> None:
    asked = runs.cell("r16", 0)
    runs.record(asked).write_failure({"error": "out of memory", "trace": ""})
    runs.end(asked, 0.9)
    runs.ask([asked])
    row = rows(compare(runs.folder, "se_ratio"))["r16"]
    assert (row.n, row.failed) == (1, 0)


def test_of_one_seed_there_is_no_deviation(runs: Runs) -> None:
    runs.study(r16=(0.9,), r4=(0.8,))
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.mean, row.std, row.difference_std) == (0.8, None, None)
    assert row.difference == pytest.approx(-0.1)


def test_a_row_that_mixes_executions_is_marked(runs: Runs) -> None:
    cells = [runs.cell(name, seed) for name in ("r16", "r4") for seed in (0, 1)]
    for asked in cells:
        other = {**CPU, "threads": 1} if (asked.variant, asked.seed) == ("r4", 1) else CPU
        runs.end(asked, 0.9, execution=other)
    runs.ask(cells)
    found = rows(compare(runs.folder, "se_ratio"))
    assert (found["r16"].mixed_execution, found["r4"].mixed_execution) == (False, True)


# Which invocations are read


def test_the_latest_invocation_is_taken_and_named(runs: Runs) -> None:
    runs.study(scale="small")
    latest = runs.study(r16=(0.5,), r4=(0.6,), recipe="smoke", scale="smoke", data=SYNTHETIC)
    comparison = compare(runs.folder, "se_ratio")
    assert (comparison.invocation, comparison.scale, comparison.data) == (latest, "smoke", SYNTHETIC["name"])
    assert comparison.invocations == 1
    assert rows(comparison)["r16"].mean == 0.5


def test_earlier_invocations_of_the_setting_join_it(runs: Runs) -> None:
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


def test_cells_of_a_recipe_that_has_changed_since_are_no_replicates(runs: Runs) -> None:
    runs.study(r16=(0.1, 0.1, 0.1, 0.1), r4=(0.1, 0.1, 0.1, 0.1), recipe="as it was")
    runs.study(r16=(0.9, 0.9), r4=(0.8, 0.8), recipe="as it is")
    row = rows(compare(runs.folder, "se_ratio"))["r4"]
    assert (row.n, row.mean, row.missing) == (2, pytest.approx(0.8), 0)


def test_of_two_cells_of_one_variant_and_seed_the_later_counts(runs: Runs) -> None:
    """As when the numerics have moved: the recipe is the same, and the fingerprint is not."""
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
def test_scale_data_and_overrides_select_another_setting(runs: Runs, asked: dict[str, Any], mean: float) -> None:
    runs.study(r16=(0.1,), r4=(0.1,), recipe="a", overrides={"train.epochs": 3})
    runs.study(r16=(0.2,), r4=(0.2,), recipe="b")
    runs.study(r16=(0.3,), r4=(0.3,), recipe="c", scale="smoke", data=SYNTHETIC)
    runs.study(r16=(0.4,), r4=(0.4,), recipe="d", data=SYNTHETIC)
    assert rows(compare(runs.folder, "se_ratio", **asked))["r16"].mean == mean


def test_data_at_a_path_is_found_by_the_path_however_it_is_typed(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs.study(data={"name": "pets", "kind": "path", "hash": "a" * 64, "source": str(tmp_path / "pets")})
    runs.study(recipe="b", data=SYNTHETIC)
    for typed in ("pets", "./pets", str(tmp_path / "pets")):
        assert compare(runs.folder, "se_ratio", data=typed).data == "pets"


def test_other_settings_that_match_are_listed_once_each(runs: Runs) -> None:
    runs.study(recipe="a", overrides={"train.epochs": 3})
    runs.study(recipe="b", scale="smoke", data=SYNTHETIC)
    runs.study(recipe="b", scale="smoke", data=SYNTHETIC)
    runs.study(recipe="c")
    others = compare(runs.folder, "se_ratio").others
    assert len(others) == 2
    assert "--scale small --data cifar10 train.epochs=3" in others
    assert "--scale smoke --data synthetic" in others
    assert compare(runs.folder, "se_ratio", scale="smoke").others == ()


def test_another_studys_invocations_are_not_mixed_in(runs: Runs) -> None:
    runs.study()
    runs.study(r16=(0.1,), r4=(0.1,), recipe="other", ablation="lookahead")
    assert rows(compare(runs.folder, "se_ratio"))["r16"].n == 3


# Refusals


def refusal(runs: Runs, name: str, **asked: Any) -> str:
    with pytest.raises(TrackingError) as caught:
        compare(runs.folder, name, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_study_that_has_not_been_run_is_refused_with_the_nearest_that_has(runs: Runs) -> None:
    runs.study()
    runs.study(ablation="noise_floor")
    assert "did you mean 'se_ratio'?" in refusal(runs, "se_ratios")
    message = refusal(runs, "qqqq")
    assert "'qqqq'" in message
    assert "one of: noise_floor, se_ratio" in message


def test_a_runs_folder_that_is_not_there_holds_nothing(runs: Runs) -> None:
    message = refusal(runs, "se_ratio")
    assert "se_ratio" in message
    assert str(runs.folder) in message
    assert not runs.folder.exists()


@pytest.mark.parametrize(
    "asked", [{"scale": "writeup"}, {"data": "synthetic"}, {"overrides": {"train.epochs": 4}}, {"data": "cifra10"}]
)
def test_a_setting_that_was_never_run_is_refused_with_those_that_were(runs: Runs, asked: dict[str, Any]) -> None:
    runs.study()
    runs.study(recipe="b", overrides={"train.epochs": 3})
    message = refusal(runs, "se_ratio", **asked)
    assert "--scale small --data cifar10" in message
    assert "train.epochs=3" in message


# JSON


def test_the_json_has_the_keys_of_the_interface(runs: Runs) -> None:
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


def test_the_json_of_a_study_in_which_nothing_is_done(runs: Runs) -> None:
    runs.ask([runs.cell("r16", 0), runs.cell("r4", 0)])
    tree = json.loads(json.dumps(compare(runs.folder, "se_ratio").as_dict(), allow_nan=False))
    assert [(row["n"], row["mean"], row["missing"]) for row in tree["rows"]] == [(0, None, 1), (0, None, 1)]


def test_a_baseline_that_has_changed_since_begins_a_comparison_of_its_own(runs: Runs) -> None:
    runs.study(baseline="old/1")
    edited = runs.cell("r4", 0, recipe="edited")
    runs.end(edited, 0.99)
    runs.ask([edited], baseline="new/1")
    (row,) = compare(runs.folder, "se_ratio").rows
    assert row.variant == "r4"
    assert row.difference is None, "a new variant was compared with a control on the old baseline"


def test_rows_that_ran_otherwise_than_the_control_are_marked(runs: Runs) -> None:
    cells = [runs.cell("r16", 0), runs.cell("r4", 0), runs.cell("r2", 0)]
    for cell, execution in zip(cells, (CPU, {**CPU, "device": "cuda"}, CPU), strict=True):
        runs.end(cell, 0.9, execution=execution)
    runs.ask(cells)
    found = rows(compare(runs.folder, "se_ratio"))
    assert [found[name].mixed_execution for name in ("r16", "r4", "r2")] == [False, True, False]


# Speed and fit, and a setting by its id


def test_gap_area_and_epochs_come_from_the_results_with_differences_by_seed(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for variant, gaps, reached in (("r16", (0.01, 0.03), (4, 6)), ("r4", (0.02, 0.05), (3, None))):
        for seed, (gap, epoch) in enumerate(zip(gaps, reached, strict=True)):
            asked = runs.cell(variant, seed)
            metrics = {
                "test/acc": 0.9,
                "val/auc": 0.5 + gap,
                "gap": gap,
                "seconds": 1.0,
                "images_seen": 1.0,
                "rise": 0.1,
            }
            metrics |= {"epochs_to/0.7": float(epoch)} if epoch else {}
            tree = {"status": "finished", "epoch": 10, "step": 0, "time": 1_790_000_000_000, "metrics": metrics}
            runs.record(asked).write_result(tree)
    runs.ask([runs.cell(variant, seed) for seed in (0, 1) for variant in ("r16", "r4")])
    control, other = compare(tmp_path, "se_ratio").rows
    assert control.gap == pytest.approx(0.02)
    assert other.gap_difference == pytest.approx(0.015)
    assert other.auc_difference == pytest.approx(0.015)
    assert control.gap_difference is None
    assert (control.epochs_to["0.7"].mean, control.epochs_to["0.9"].reached) == (5, 0)
    assert (other.epochs_to["0.7"].mean, other.epochs_to["0.7"].reached, other.epochs_to["0.7"].of) == (3, 1, 2)
    assert other.rises == (0.1, 0.1)


def test_an_earlier_setting_is_chosen_by_its_id(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    first = runs.ask([runs.cell("r16", 0)])
    runs.ask([runs.cell("r16", 0, "other")], overrides={"train.epochs": 3})
    assert compare(tmp_path, "se_ratio").overrides == {"train.epochs": 3}
    assert compare(tmp_path, "se_ratio", invocation=first).overrides == {}
    with pytest.raises(TrackingError, match="no such invocation; did you mean"):
        compare(tmp_path, "se_ratio", invocation=first[:-1])


def test_in_a_chain_each_stage_is_compared_with_the_one_before(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    accuracies = {"s1": 0.5, "s2": 0.7, "s3": 0.6}
    for stage, accuracy in accuracies.items():
        runs.end(runs.cell(stage, 0), accuracy)
    runs.ask([runs.cell(stage, 0) for stage in accuracies], control="s1", against={"s2": "s1", "s3": "s2"})
    made = compare(tmp_path, "se_ratio")
    assert made.chain
    assert [row.against for row in made.rows] == [None, "s1", "s2"]
    assert [row.difference for row in made.rows] == [None, pytest.approx(0.2), pytest.approx(-0.1)]
    assert "the stage before" in made.header()[1]

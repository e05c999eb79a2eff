"""Speed and fit in rows, compared with numbers computed by hand, and the cells that they include."""

from __future__ import annotations

import json
from typing import Any

import pytest
from made import records

from cifar_lab.report import table_notes
from cifar_lab.report.table_content import note
from cifar_lab.results.compare import compare
from cifar_lab.results.comparison import ComparisonRow
from cifar_lab.results.stats.convergence import EpochsToThreshold
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal


def rows(runs: Any) -> dict[str, ComparisonRow]:
    return {row.variant: row for row in compare(runs.folder, "se_ratio").rows}


def ended(runs: Any, values: dict[str, list[dict[str, float]]], **changed: Any) -> dict[str, ComparisonRow]:
    """The rows of cells that were finished with these metrics; a variant's seeds count from 0."""
    for variant, seeds in values.items():
        for seed, metrics in enumerate(seeds):
            runs.end(runs.cell(variant, seed), 0.9, **metrics)
    runs.ask([runs.cell(variant, seed) for variant, seeds in values.items() for seed in range(len(seeds))], **changed)
    return rows(runs)


def write_curve(record: CellRecord, accuracies: list[float], name: str = "val") -> None:
    journal = Journal(record.folder)
    journal.write("start")
    for epoch, accuracy in enumerate(accuracies, start=1):
        journal.points(epoch, {f"{name}/acc": accuracy})
        journal.write("checkpoint", epoch=epoch, step=0)


# Gap and area


def test_gap_and_area_are_means_and_their_differences_are_paired_by_seed(runs: Any) -> None:
    found = ended(
        runs,
        {
            "r16": [{"gap": 0.01, "val/auc": 0.5}, {"gap": 0.03, "val/auc": 0.6}],
            "r4": [{"gap": 0.02, "val/auc": 0.55}, {"gap": 0.05, "val/auc": 0.67}, {"gap": 0.5, "val/auc": 0.1}],
        },
    )
    control, other = found["r16"], found["r4"]
    assert (control.gap, control.auc) == (pytest.approx(0.02), pytest.approx(0.55))
    assert (control.gap_difference, control.auc_difference) == (None, None)
    assert (other.gap, other.auc) == (pytest.approx(0.19), pytest.approx(0.44))
    assert other.gap_difference == pytest.approx((0.01 + 0.02) / 2), "a seed that the control lacks was counted"
    assert other.auc_difference == pytest.approx((0.05 + 0.07) / 2)


def test_in_a_chain_the_differences_are_to_the_stage_before(runs: Any) -> None:
    values = {
        "s1": [{"gap": 0.01, "val/auc": 0.5, "epochs_to/0.5": 6.0}],
        "s2": [{"gap": 0.04, "val/auc": 0.7, "epochs_to/0.5": 2.0}],
        "s3": [{"gap": 0.02, "val/auc": 0.6, "epochs_to/0.5": 3.0}],
    }
    found = ended(runs, values, control="s1", against={"s2": "s1", "s3": "s2"})
    assert found["s3"].gap_difference == pytest.approx(-0.02)
    assert found["s3"].auc_difference == pytest.approx(-0.1)
    assert found["s3"].epochs_to_difference["0.5"].mean == 1


def test_under_the_writeups_protocol_the_area_is_that_of_test(runs: Any) -> None:
    runs.end(runs.cell("r16", 0), 0.9, protocol="writeup", **{"test/auc": 0.7})
    runs.ask([runs.cell("r16", 0)], protocol="writeup")
    assert rows(runs)["r16"].auc == 0.7


# The same numbers


def losses(*values: float, **more: float) -> list[dict[str, float]]:
    """Metrics by seed."""
    return [{"test/loss": value, **more} for value in values]


def test_a_variant_with_the_numbers_of_an_earlier_one_in_every_seed_that_both_have_says_so(runs: Any) -> None:
    found = ended(
        runs,
        {
            "r16": losses(0.31, 0.32, images_per_second=100.0),
            "r4": losses(0.31, 0.32, 0.33, images_per_second=99.0),
            "r8": losses(0.31, 0.320001),
            "r2": losses(0.31),
        },
    )
    assert {name: row.same_as for name, row in found.items()} == {
        "r16": None, "r4": "r16", "r8": None, "r2": "r16",
    }  # fmt: skip
    assert "the same numbers as r16 in every seed" in note(found["r4"])


def test_accuracies_that_meet_are_not_the_same_training(runs: Any) -> None:
    assert ended(runs, {"r16": [{}, {}], "r4": [{}, {}]})["r4"].same_as is None


# Epochs to a threshold


def test_cells_that_never_reached_a_threshold_are_counted(runs: Any) -> None:
    found = ended(runs, {"r16": [{"epochs_to/0.7": 4.0}, {"epochs_to/0.7": 6.0}], "r4": [{"epochs_to/0.7": 3.0}, {}]})
    assert found["r16"].epochs_to["0.7"] == EpochsToThreshold(mean=5.0, reached=2, of=2)
    assert found["r4"].epochs_to["0.7"] == EpochsToThreshold(mean=3.0, reached=1, of=2)
    assert found["r4"].epochs_to["0.9"] == EpochsToThreshold(mean=None, reached=0, of=2)
    assert found["r4"].epochs_to_difference["0.7"] == EpochsToThreshold(mean=-1.0, reached=1, of=2)
    assert found["r4"].epochs_to_difference["0.9"] == EpochsToThreshold(mean=None, reached=0, of=2)
    assert found["r16"].epochs_to_difference["0.7"] == EpochsToThreshold(mean=None, reached=0, of=0)


def test_the_json_has_every_threshold_with_its_counts(runs: Any) -> None:
    ended(runs, {"r16": [{"epochs_to/0.7": 4.0, "rise": 0.02}], "r4": [{}]})
    tree = json.loads(json.dumps(compare(runs.folder, "se_ratio").as_dict(), allow_nan=False))
    first, second = tree["rows"]
    assert list(first["epochs_to"]) == ["0.5", "0.6", "0.7", "0.8", "0.85", "0.9", "0.95"]
    assert first["epochs_to"]["0.7"] == {"mean": 4.0, "reached": 1, "of": 1}
    assert second["epochs_to"]["0.7"] == {"mean": None, "reached": 0, "of": 1}
    assert second["epochs_to_difference"]["0.7"] == {"mean": None, "reached": 0, "of": 1}
    assert (first["rise"], second["rise"]) == (0.02, None)
    assert (first["gap"], first["gap_difference"], first["auc"], first["auc_difference"]) == (None,) * 4
    assert tree["threshold"] == "0.7"


def test_cells_that_were_not_finished_are_in_none_of_it(runs: Any) -> None:
    """A diverged cell has metrics of the epochs before it broke."""
    broken = {"gap": 0.9, "val/auc": 0.1, "epochs_to/0.5": 1.0, "rise": 0.5}
    diverged = runs.end(runs.cell("r16", 0), 0.0, status="diverged", **broken)
    write_curve(diverged, [0.1, 0.5])
    runs.end(runs.cell("r16", 1), 0.9, **{"gap": 0.02, "epochs_to/0.5": 3.0})
    runs.ask([runs.cell("r16", seed) for seed in range(3)])
    row = rows(runs)["r16"]
    assert (row.n, row.diverged, row.missing) == (1, 1, 1)
    assert (row.gap, row.auc, row.rises) == (0.02, None, ())
    assert row.epochs_to["0.5"] == EpochsToThreshold(mean=3.0, reached=1, of=1)


def test_a_variant_of_which_nothing_is_finished_says_nothing(runs: Any) -> None:
    runs.end(runs.cell("r16", 0), 0.0, status="diverged")
    runs.ask([runs.cell("r16", 0), runs.cell("r4", 0)])
    for row in rows(runs).values():
        assert (row.gap, row.auc, row.rise, row.epochs) == (None, None, None, None)
        assert row.epochs_to["0.5"] == EpochsToThreshold(mean=None, reached=0, of=0)


# The rise at the end


def test_the_rise_comes_from_the_result_and_of_older_cells_from_the_journal(runs: Any) -> None:
    runs.end(runs.cell("r16", 0), 0.9, rise=0.01)
    for seed, name in ((1, "val"), (2, "test")):
        write_curve(runs.end(runs.cell("r16", seed), 0.9), [0.2] * 9 + [0.25], name)
    runs.ask([runs.cell("r16", seed) for seed in range(3)])
    row = rows(runs)["r16"]
    assert row.rises == (0.01, pytest.approx(0.05), pytest.approx(0.05))
    assert row.rise == pytest.approx(0.11 / 3)
    assert row.epochs == 10


@pytest.mark.parametrize("accuracies", [[], [0.5]])
def test_a_training_of_no_epoch_or_one_has_no_rise(runs: Any, accuracies: list[float]) -> None:
    write_curve(runs.end(runs.cell("r16", 0), 0.9, epoch=len(accuracies)), accuracies)
    runs.ask([runs.cell("r16", 0)])
    row = rows(runs)["r16"]
    assert (row.rises, row.rise, row.epochs) == ((), None, len(accuracies))


# An ablation of the protocol


@pytest.mark.parametrize("control", ["holdout", "writeup"])
def test_where_the_protocols_differ_the_metric_is_the_one_that_all_cells_have(runs: Any, control: str) -> None:
    """Only `writeup` has a peak; an invocation notes the protocol of its first cell."""
    for variant, accuracy in {"holdout": 0.8, "writeup": 0.9}.items():
        runs.end(runs.cell(variant, 0), accuracy, protocol=variant)
    runs.ask([runs.cell(variant, 0) for variant in ("holdout", "writeup")], control=control, protocol=control)
    made = compare(runs.folder, "se_ratio")
    assert (made.metric, made.protocol) == ("test/acc", "mixed")
    assert {row.variant: row.mean for row in made.rows} == {"holdout": 0.8, "writeup": 0.9}
    assert "protocols differ" in table_notes.header(made)[1]
    assert "looked at once" not in table_notes.header(made)[1]


def test_a_protocol_that_only_cells_which_were_never_begun_have_is_not_mixed(runs: Any) -> None:
    runs.end(runs.cell("holdout", 0), 0.8)
    runs.ask([runs.cell("holdout", 0), runs.cell("writeup", 0)], control="holdout")
    assert compare(runs.folder, "se_ratio").protocol == "holdout"


# What is not there


def test_a_finished_cell_that_measured_nothing_is_counted_in_the_note(runs: Any) -> None:
    runs.study()
    record = CellRecord(runs.folder / runs.cell("r4", 2).fingerprint)
    records.end(record, epoch=10)
    found = rows(runs)["r4"]
    assert (found.n, found.pairs, note(found)) == (2, 2, "1 finished without test/acc")

"""The forms of a comparison: the same numbers in each, and what must be known beside them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from cifar_lab.report.comparison import Comparison, Row
from cifar_lab.report.tables import FIT, HEADINGS, NUMBERS, as_csv, as_markdown, cells, fit_cells, fit_table, note
from cifar_lab.stats.convergence import Reached

SYNTHETIC = "synthetic, not CIFAR-10"


def row(variant: str = "r4", **changed: Any) -> Row:
    fields: dict[str, Any] = {
        "against": "r16",
        "n": 5, "mean": 0.91234, "std": 0.0012, "difference": -0.00456, "difference_std": 0.0034, "pairs": 5,
        "interval": None, "p_value": None, "verdict": None, "missing": 0, "running": 0, "failed": 0, "diverged": 0,
        "mixed_execution": False, "parameters": 4_699_290, "parameters_trained": 4_699_290, "macs": 798_690_304,
        "seconds": 3661.4, "images_seen": 9e6,
    }  # fmt: skip
    return Row(variant=variant, **(fields | changed))


def comparison(*rows: Row, **changed: Any) -> Comparison:
    fields: dict[str, Any] = {
        "ablation": "se_ratio", "scale": "writeup", "protocol": "holdout", "metric": "test/acc", "control": "r16",
        "data": "CIFAR-10", "overrides": {}, "invocation": "20261122T210000.000-se_ratio", "invocations": 1,
    }  # fmt: skip
    return Comparison(rows=rows or (CONTROL, row()), **(fields | changed))


CONTROL = row("r16", against=None, mean=0.9169, difference=None, difference_std=None, pairs=0)
NOTHING = row("r2", n=0, mean=None, std=None, difference=None, difference_std=None, seconds=None, missing=5)


def shown(of: Row) -> dict[str, str]:
    """A row's cells by heading; the two deviations as `± std` and `± Δ`."""
    names = list(HEADINGS)
    names[names.index("Δ") + 1] = "± Δ"
    return dict(zip(names, cells(of), strict=True))


def text(of: Comparison) -> str:
    return "\n".join([*of.header(), *of.footer()])


# Cells


def test_accuracies_and_differences_are_shown_in_points_of_a_percent() -> None:
    there = shown(row())
    assert (there["accuracy %"], there["± std"], there["Δ"], there["± Δ"]) == ("91.23", "0.12", "-0.46", "0.34")


def test_a_difference_has_a_sign() -> None:
    assert shown(row(difference=0.00456))["Δ"] == "+0.46"


def test_cost_stands_beside_accuracy() -> None:
    there = shown(row(parameters_trained=295_000))
    assert (there["n"], there["parameters"], there["MACs"], there["time"]) == ("5", "4,699,290", "799 M", "3,661 s")


def test_what_is_not_known_is_blank_and_what_is_missing_is_said() -> None:
    there = shown(NOTHING)
    assert (there["n"], there["accuracy %"], there["± std"], there["Δ"], there["time"]) == ("0", "", "", "", "")
    assert there["note"] == "5 missing"


def test_a_row_says_how_many_cells_are_not_in_its_mean() -> None:
    said = note(row(missing=1, running=2, failed=3, diverged=4))
    assert all(word in said for word in ("1 missing", "2 running", "3 failed", "4 diverged"))
    assert note(row()) == ""


def test_a_row_that_mixes_executions_is_marked_and_the_mark_explained() -> None:
    mixed = row(mixed_execution=True)
    assert shown(mixed)["variant"] == "r4 *"
    assert shown(row())["variant"] == "r4"
    assert "* " in text(comparison(CONTROL, mixed))
    assert "executions" not in text(comparison())


def test_a_verdict_is_shown_once_there_is_one() -> None:
    assert shown(row())["verdict"] == ""
    assert shown(row(verdict="worse"))["verdict"] == "worse"


def test_every_row_has_a_cell_for_every_heading() -> None:
    assert {len(cells(each)) for each in (row(), CONTROL, NOTHING)} == {len(HEADINGS)}
    assert set(NUMBERS) <= set(HEADINGS)


# All forms, the same numbers


def markdown_rows(made: str, which: int = 0) -> list[list[str]]:
    """The rows of one of the tables, the first unless said otherwise."""
    tables = [part for part in made.split("\n\n") if part.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[which].splitlines()]


def test_the_markdown_table_holds_the_cells_of_every_row() -> None:
    rows = (CONTROL, row(), NOTHING)
    headings, rule, *body = markdown_rows(as_markdown(comparison(*rows)))
    assert tuple(headings) == HEADINGS
    assert {len(headings), len(rule)} == {len(HEADINGS)}
    assert body == [cells(each) for each in rows]


def test_the_csv_holds_every_number_unrounded() -> None:
    rows = (CONTROL, row(), NOTHING)
    read = list(csv.DictReader(io.StringIO(as_csv(comparison(*rows)))))
    assert [line["variant"] for line in read] == ["r16", "r4", "r2"]
    assert [float(line["mean"]) if line["mean"] else None for line in read] == [each.mean for each in rows]
    assert float(read[1]["difference"]) == row().difference
    assert (read[0]["difference"], read[2]["mean"], read[2]["missing"]) == ("", "", "5")
    assert {line["ablation"] for line in read} == {"se_ratio"}


def test_markdown_csv_and_json_say_the_same() -> None:
    of = comparison(CONTROL, row(), NOTHING)
    tree = json.loads(json.dumps(of.as_dict(), allow_nan=False))["rows"]
    table = markdown_rows(as_markdown(of))[2:]
    lines = list(csv.DictReader(io.StringIO(as_csv(of))))
    for as_json, as_table, as_line in zip(tree, table, lines, strict=True):
        assert as_json["variant"] == as_table[0] == as_line["variant"]
        assert str(as_json["n"]) == as_table[1] == as_line["n"]
        for key, place in (("mean", 2), ("std", 3), ("difference", 4), ("difference_std", 5)):
            value = as_json[key]
            assert as_line[key] == ("" if value is None else str(value))
            assert (as_table[place] == "") == (value is None)
            if value is not None:
                assert float(as_table[place]) == pytest.approx(100 * value, abs=0.005001)


def test_the_json_has_the_keys_of_the_interface() -> None:
    tree = comparison().as_dict()
    assert {"ablation", "scale", "metric", "control", "rows"} <= set(tree)
    keys = {"variant", "n", "mean", "std", "difference", "interval", "p_value", "verdict"}
    assert all(keys <= set(each) for each in tree["rows"])


# Speed and fit


def reached(mean: float | None, reached: int, of: int = 5) -> Reached:
    return Reached(mean=mean, reached=reached, of=of)


FAST = {"0.5": reached(2.0, 5), "0.7": reached(4.5, 5)}
SLOW = {"0.5": reached(3.0, 5), "0.7": reached(9.0, 2)}
NOWHERE = {"0.5": reached(None, 0), "0.7": reached(None, 0)}
FITTED = {
    "gap": 0.031, "gap_difference": -0.002, "auc": 0.8, "auc_difference": 0.01, "rises": (0.02, 0.04), "epochs": 10,
    "epochs_to": SLOW, "epochs_to_difference": {"0.5": reached(1.0, 5), "0.7": reached(4.5, 2)},
}  # fmt: skip
FITTED_CONTROL = replace(CONTROL, epochs_to=FAST, gap=0.033, auc=0.79, rises=(0.01, 0.02), epochs=10)


def test_speed_and_fit_have_a_table_of_their_own() -> None:
    headings, rows = fit_table(comparison(FITTED_CONTROL, row(**FITTED)))
    assert headings == [
        "variant", "epochs to 70 %", "Δ epochs", "AUC %", "Δ AUC", "gap", "Δ gap", "rise", "images seen",
    ]  # fmt: skip
    assert rows == [
        ["r16", "4.5", "", "79.00", "", "+3.30", "", "+1.50", "9,000,000"],
        ["r4", "9.0 (2 of 5)", "+4.5 (2 of 5)", "80.00", "+1.00", "+3.10", "-0.20", "+3.00", "9,000,000"],
    ]


def test_the_markdown_has_the_second_table_below_the_first_and_says_what_its_words_mean() -> None:
    of = comparison(FITTED_CONTROL, row(**FITTED))
    headings, rows = fit_table(of)
    made = as_markdown(of)
    first, rule, *body = markdown_rows(made, which=1)
    assert (first, body) == (headings, rows)
    assert rule == ["---", *["---:"] * (len(headings) - 1)]
    assert made.index("| variant | n |") < made.index("gap: clean train less val") < made.index("| variant | epochs to")


@pytest.mark.parametrize(
    ("protocol", "words"), [("holdout", "less val ·"), ("writeup", "less test ·"), ("mixed", "less val (test, under")]
)
def test_the_second_table_says_which_images_were_watched(protocol: str, words: str) -> None:
    assert words in as_markdown(comparison(FITTED_CONTROL, protocol=protocol))


def test_columns_of_which_nothing_is_known_are_not_in_the_second_table() -> None:
    headings, rows = fit_table(comparison(replace(CONTROL, gap=0.01), replace(NOTHING, images_seen=None)))
    assert headings == ["variant", "gap", "images seen"]
    assert rows == [["r16", "+1.00", "9,000,000"], ["r2", "", ""]]


def test_where_nothing_is_finished_there_is_no_second_table() -> None:
    of = comparison(replace(NOTHING, images_seen=None))
    assert fit_table(of) == ([], [])
    assert "AUC:" not in as_markdown(of)


def test_the_threshold_is_the_highest_that_every_cell_of_the_control_reached_else_any_cell() -> None:
    assert comparison(replace(CONTROL, epochs_to=FAST), row(epochs_to=SLOW)).threshold == "0.7"
    assert comparison(replace(CONTROL, epochs_to=SLOW), row(epochs_to=FAST)).threshold == "0.5"
    assert comparison(replace(CONTROL, epochs_to=NOWHERE), row(epochs_to=SLOW)).threshold == "0.7"
    assert comparison(replace(CONTROL, epochs_to={"0.5": reached(None, 0, 0)}), row(epochs_to=SLOW)).threshold == "0.7"
    assert comparison(replace(CONTROL, epochs_to=NOWHERE), row(epochs_to=NOWHERE)).threshold is None
    assert comparison(row(epochs_to=SLOW)).threshold == "0.7", "without a control, any cell"


def test_a_threshold_that_nobody_reached_has_no_column() -> None:
    headings, _ = fit_table(comparison(replace(FITTED_CONTROL, epochs_to=NOWHERE), row(epochs_to=NOWHERE)))
    assert not any("epochs" in heading for heading in headings)


def test_cells_that_never_got_there_are_said() -> None:
    headings, rows = fit_table(comparison(FITTED_CONTROL, row(epochs_to=NOWHERE), replace(NOTHING, epochs_to={})))
    assert headings[1] == "epochs to 70 %"
    assert [each[1] for each in rows] == ["4.5", "never", ""]
    assert fit_cells(row(epochs_to={"0.5": reached(None, 0, 0)}), "0.5")[1] == ""


def test_every_row_has_a_cell_for_every_heading_of_the_second_table() -> None:
    assert {len(fit_cells(each, x)) for each in (row(**FITTED), CONTROL, NOTHING) for x in ("0.7", None)} == {len(FIT)}


def test_the_csv_has_a_column_for_each_number_of_each_threshold() -> None:
    first, second = csv.DictReader(io.StringIO(as_csv(comparison(CONTROL, row(**FITTED)))))
    assert [second[f"epochs_to_0.7_{name}"] for name in ("mean", "reached", "of")] == ["9.0", "2", "5"]
    assert [second[f"epochs_to_difference_0.7_{name}"] for name in ("mean", "reached", "of")] == ["4.5", "2", "5"]
    assert (float(second["gap"]), float(second["auc_difference"]), float(second["rise"])) == (0.031, 0.01, 0.03)
    assert (first["epochs_to_0.7_mean"], first["gap"], first["rise"]) == ("", "", "")
    assert not any("{" in value for value in second.values())


# Curves that had not come to rest


def rising(*lengths: int | None) -> str:
    of = (row(f"r{i}", rises=(0.031,), epochs=length) for i, length in enumerate(lengths))
    return next((line for line in comparison(CONTROL, *of).footer() if line.startswith("still rising")), "")


def test_curves_that_still_rise_are_said_with_the_length_of_the_training() -> None:
    assert rising(10) == "still rising: r0 +3.1 points in the last epoch of 10: a longer training may change the order"
    assert "r0 +3.1, r1 +3.1 points in the last tenth of 200 epochs:" in rising(200, 200)


def test_of_trainings_of_several_lengths_the_range_is_said() -> None:
    assert "points in the last epoch of 2 to 10 epochs:" in rising(10, 2)
    assert "points in the last tenth of 2 to 200 epochs:" in rising(200, 2)
    assert "points in the last tenth of the epochs:" in rising(None)


def test_curves_that_are_flat_or_as_likely_fall_are_not_said() -> None:
    for rises in ((), (0.0002,), (-0.02,), (-0.04, 0.03, 0.07)):
        assert "still rising" not in text(comparison(CONTROL, row(rises=rises, epochs=10)))
    assert "still rising: r4 +3.0" in text(comparison(CONTROL, row(rises=(0.02, 0.03, 0.04), epochs=10)))


# What must be known beside the numbers


@pytest.mark.parametrize("form", [as_markdown, as_csv, text])
def test_a_table_of_synthetic_data_says_so(form: Any) -> None:
    assert SYNTHETIC in form(comparison(data=SYNTHETIC))
    assert SYNTHETIC not in form(comparison())


def test_synthetic_data_says_so_in_the_json() -> None:
    assert comparison(data=SYNTHETIC).as_dict()["data"] == SYNTHETIC


def test_the_header_names_study_scale_data_overrides_control_and_invocation() -> None:
    head = "\n".join(comparison(scale="small", overrides={"train.epochs": 30, "optim.lr": 0.05}).header())
    for word in ("se_ratio", "small", "CIFAR-10", "train.epochs=30", "optim.lr=0.05", "r16", "20261122T210000.000"):
        assert word in head


def test_the_header_tells_the_last_weights_from_a_peak_that_was_selected_on_test() -> None:
    assert "selected on test" in text(comparison(metric="test/peak_acc", protocol="writeup"))
    assert "selected on test" not in text(comparison())


def test_the_csv_names_protocol_and_metric() -> None:
    peak = comparison(metric="test/peak_acc", protocol="writeup")
    for line in csv.DictReader(io.StringIO(as_csv(peak))):
        assert (line["metric"], line["protocol"], line["control"]) == ("test/peak_acc", "writeup", "r16")


def test_the_header_says_when_several_invocations_are_read_together() -> None:
    assert "3" in comparison(invocations=3).header()[-1]
    assert "latest of" not in text(comparison())


def test_the_footer_says_that_the_scale_trained_smaller_networks() -> None:
    assert "smaller networks" in text(comparison(CONTROL, row(parameters_trained=295_000)))
    assert "smaller networks" not in text(comparison())


@pytest.mark.parametrize(("n", "warned"), [(0, True), (1, True), (4, True), (5, False), (10, False)])
def test_the_footer_warns_of_few_seeds(n: int, warned: bool) -> None:
    assert ("seeds" in "\n".join(comparison(CONTROL, row(n=n)).footer())) == warned


def test_the_footer_lists_other_settings() -> None:
    assert "--scale small --data cifar10" in text(comparison(others=("--scale small --data cifar10",)))


def test_markdown_carries_header_footer_and_how_the_numbers_were_made() -> None:
    made = ("command: `cifar-lab run-ablation se_ratio`", "hardware: EPYC, 2 cores")
    of = replace(comparison(CONTROL, row(n=3)), others=("--scale small --data cifar10",), made=made)
    assert all(line in as_markdown(of) for line in [*of.header(), *of.footer(), *made])

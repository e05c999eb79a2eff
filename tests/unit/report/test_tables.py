"""The forms of a comparison: the same numbers in each, and what must be known beside them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from cifar_lab.report.tables import HEADINGS, NUMBERS, Comparison, Row, as_csv, as_markdown, cells, fit_cells, note
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


FAST = {"0.5": Reached(mean=2.0, reached=5, of=5), "0.7": Reached(mean=4.5, reached=5, of=5)}
SLOW = {"0.5": Reached(mean=3.0, reached=5, of=5), "0.7": Reached(mean=9.0, reached=2, of=5)}
FITTED = {"gap": 0.031, "gap_difference": -0.002, "auc": 0.8, "auc_difference": 0.01, "rises": (0.02, 0.04)}


def test_speed_and_fit_have_a_table_of_their_own() -> None:
    of = comparison(replace(CONTROL, epochs_to=FAST), row(epochs_to=SLOW, **FITTED))
    headings, _, control, slower = markdown_rows(as_markdown(of), which=1)
    assert headings[1] == "epochs to 70 %"
    assert control[1] == "4.5"
    assert slower[:7] == ["r4", "9.0 (2 of 5)", "80.00", "+1.00", "+3.10", "-0.20", "+3.00"]


def test_the_threshold_is_the_highest_that_every_cell_of_the_control_reached_else_any_cell() -> None:
    nowhere = {"0.5": Reached(mean=None, reached=0, of=5)}
    assert comparison(replace(CONTROL, epochs_to=SLOW), row(epochs_to=FAST)).threshold == "0.5"
    assert comparison(replace(CONTROL, epochs_to=nowhere), row(epochs_to=FAST)).threshold == "0.7"
    assert comparison(replace(CONTROL, epochs_to=nowhere), row(epochs_to=nowhere)).threshold is None
    shown = fit_cells(row(epochs_to=nowhere), "0.5")
    assert shown[1] == "never"


def test_a_curve_that_still_rises_is_said() -> None:
    said = "\n".join(comparison(CONTROL, row(rises=(0.02, 0.04))).footer())
    assert "still rising, by points in the last tenth of the epochs: r4 +3.0" in said
    assert "still rising" not in "\n".join(comparison(CONTROL, row(rises=(0.0002,))).footer())


def test_the_json_has_the_keys_of_the_interface() -> None:
    tree = comparison().as_dict()
    assert {"ablation", "scale", "metric", "control", "rows"} <= set(tree)
    keys = {"variant", "n", "mean", "std", "difference", "interval", "p_value", "verdict"}
    assert all(keys <= set(each) for each in tree["rows"])


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

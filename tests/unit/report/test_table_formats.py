"""The forms of a comparison: the same numbers in each."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from made.comparisons import CONTROL, NOTHING, comparison, reached, row

from cifar_lab.report import table_notes
from cifar_lab.report.table_content import HEADINGS, comparison_tables, published_table, row_texts
from cifar_lab.report.table_formats import _with_signs, as_csv, as_latex, as_markdown, latex
from cifar_lab.results.comparison import Comparison, Effect

SLOW = {"0.5": reached(3.0, 5), "0.7": reached(9.0, 2)}
FITTED = {
    "gap": 0.031, "gap_difference": -0.002, "auc": 0.8, "auc_difference": 0.01, "rises": (0.02, 0.04), "epochs": 10,
    "epochs_to": SLOW, "epochs_to_difference": {"0.5": reached(1.0, 5), "0.7": reached(4.5, 2)},
}  # fmt: skip
SYNTHETIC = "synthetic, not CIFAR-10"


def markdown_rows(made: str, which: int = 0) -> list[list[str]]:
    """The rows of one of the tables, the first unless said otherwise."""
    tables = [part for part in made.split("\n\n") if part.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[which].splitlines()]


def test_the_markdown_table_holds_the_cells_of_every_row() -> None:
    rows = (CONTROL, row(), NOTHING)
    headings, rule, *body = markdown_rows(as_markdown(comparison(*rows)))
    shown = [row_texts(each) for each in rows]
    shown[0][HEADINGS.index("verdict")] = "control"
    kept = [place for place in range(8) if any(each[place] for each in shown)]
    assert len(headings) == len(rule) == len(kept)
    assert body == [[each[place] for place in kept] for each in shown]


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
        for key, place in (("mean", 2), ("std", 3), ("difference", 4)):
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


def test_intervals_are_the_same_in_every_form() -> None:
    of = comparison()
    low, high = of.as_dict()["rows"][1]["interval"]
    shown = f"[{100 * low:+.2f}, {100 * high:+.2f}]"
    assert markdown_rows(as_markdown(of))[3][5] == shown
    assert f"${shown}$" in as_latex(of)
    assert json.loads(list(csv.DictReader(io.StringIO(as_csv(of))))[1]["interval"]) == [low, high]


def test_markdown_has_every_table_with_what_its_words_mean() -> None:
    of = comparison()
    made = as_markdown(of)
    for which, sheet in enumerate(comparison_tables(of)):
        first, _, *body = markdown_rows(made, which)
        assert (tuple(first), [tuple(row_texts) for row_texts in body]) == (sheet.headings, list(sheet.rows))
        assert sheet.caption in made


# LaTeX


def test_latex_has_every_table_with_all_its_cells() -> None:
    of = comparison(CONTROL, row(), NOTHING)
    made = as_latex(of, everything=True)
    tables = re.findall(r"\\begin{tabular}{([lr]+)}\n(.*?)\\end{tabular}", made, flags=re.DOTALL)
    assert len(tables) == len(comparison_tables(of))
    for (columns, body), sheet in zip(tables, [published_table(of), *comparison_tables(of)[1:]], strict=True):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(columns) == len(sheet.headings)
        assert [len(re.split(r"(?<!\\)&", line)) for line in lines] == [len(columns)] * (len(sheet.rows) + 1)


def test_latex_is_one_table_with_accuracies_and_their_deviations() -> None:
    made = as_latex(comparison(CONTROL, row(verdict="worse"), NOTHING, margin=0.005))
    assert made.count(r"\begin{tabular}") == made.count(r"\toprule") == 1
    assert r"r16 & 5 & 91.7 $\pm$ 0.1 &  &  & control &" in made
    assert r"r4 & 5 & 91.2 $\pm$ 0.1 & $-0.5$ & $[-0.9, -0.0]$ & worse &" in made
    assert r"91.23 $\pm$ 0.12 & $-0.46$ & $[-0.88, -0.03]$" in as_latex(comparison(margin=0.002))
    assert r"95 \% confidence" in made
    assert r"r4 & 1 & 91.2 &" in as_latex(comparison(CONTROL, row(n=1, std=None), margin=0.02)), "no deviation of one"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-2.5", "$-2.5$"),
        ("[-4.8, +0.3]", "$[-4.8, +0.3]$"),
        ("-1.5 (2 of 3)", "$-1.5$ (2 of 3)"),
        ("every row, +6.1 to +12.4 points.", "every row, $+6.1$ to $+12.4$ points."),
        ("optim.lr=-0.1", "optim.lr=$-0.1$"),
        ("91.2 ± 0.1", r"91.2 $\pm$ 0.1"),
        ("seeds 0-4, 2026-11-24, r-4, -y, 1e-05, a_-1x", r"seeds 0-4, 2026-11-24, r-4, -y, 1e-05, a\_-1x"),
    ],
)
def test_latex_sets_numbers_with_a_sign_in_math_mode_and_nothing_else(text: str, shown: str) -> None:
    assert _with_signs(text) == shown


def test_latex_escapes_what_it_would_take_for_its_own() -> None:
    assert latex(r"50 % of a_b & c^{d} \e ~ #1 $") == (
        r"50 \% of a\_b \& c\textasciicircum{}\{d\} \textbackslash{}e \textasciitilde{} \#1 \$"
    )
    assert "se\\_ratio" in as_latex(comparison())


def test_code_in_a_message_is_set_as_code_in_latex() -> None:
    assert latex("see `noise_floor`, ``a & b`` too") == r"see \texttt{noise\_floor}, \texttt{a \& b} too"
    assert latex("one ` alone") == "one ` alone"


def test_latex_of_what_a_table_can_hold_is_ascii() -> None:
    sign = re.compile(r"[^\x00-\x7f]")
    made = as_latex(comparison(data="50 % · a × b ± Δ ≈ – − †"))
    assert not sign.findall(made.replace("Š", "S").replace("á", "a")), "letters with accents are LaTeX's own by now"


# What must be known


@pytest.mark.parametrize("form", [as_markdown, as_csv, as_latex])
def test_a_table_of_synthetic_data_says_so(form: Callable[[Comparison], str]) -> None:
    assert SYNTHETIC in form(comparison(data=SYNTHETIC))
    assert SYNTHETIC not in form(comparison())


def test_synthetic_data_says_so_in_the_json() -> None:
    assert comparison(data=SYNTHETIC).as_dict()["data"] == SYNTHETIC


def test_the_csv_names_protocol_and_metric() -> None:
    peak = comparison(metric="test/peak_acc", protocol="writeup")
    for line in csv.DictReader(io.StringIO(as_csv(peak))):
        assert (line["metric"], line["protocol"], line["control"]) == ("test/peak_acc", "writeup", "r16")


def test_the_csv_names_the_setting_as_the_other_forms_do() -> None:
    of = comparison(overrides={"train.epochs": 3, "optim.name": "sgd"})
    for line in csv.DictReader(io.StringIO(as_csv(of))):
        assert json.loads(line["overrides"]) == of.overrides
        assert (line["invocation"], line["kind"], line["contrast"]) == (of.invocation, "variant", "")


def test_effects_are_lines_of_the_csv_that_no_reader_takes_for_variants() -> None:
    names = ("model.se.reduction", "optim.lookahead.enabled", "model.se.reduction × optim.lookahead.enabled")
    found = tuple(
        Effect(name=name, pairs=5, difference=0.004, interval=(0.001, 0.007), level=0.983, verdict="better",
               reason=None) for name in names
    )  # fmt: skip
    lines = list(csv.DictReader(io.StringIO(as_csv(comparison(CONTROL, row(), effects=found)))))
    assert [line["kind"] for line in lines] == ["variant"] * 2 + ["effect"] * 3
    assert tuple(line["contrast"] for line in lines[2:]) == names
    assert {line["variant"] for line in lines[2:]} == {""}
    assert [float(lines[4][name]) for name in ("difference", "level", "pairs")] == [0.004, 0.983, 5.0]
    assert (json.loads(lines[4]["interval"]), lines[4]["verdict"]) == ([0.001, 0.007], "better")


def test_the_csv_has_a_column_for_each_number_of_each_threshold() -> None:
    first, second = csv.DictReader(io.StringIO(as_csv(comparison(CONTROL, row(**FITTED)))))
    assert [second[f"epochs_to_0.7_{name}"] for name in ("mean", "reached", "of")] == ["9.0", "2", "5"]
    assert [second[f"epochs_to_difference_0.7_{name}"] for name in ("mean", "reached", "of")] == ["4.5", "2", "5"]
    assert (float(second["gap"]), float(second["auc_difference"]), float(second["rise"])) == (0.031, 0.01, 0.03)
    assert (first["epochs_to_0.7_mean"], first["gap"], first["rise"]) == ("", "", "")
    assert [name for name, value in second.items() if "{" in value] == ["overrides"]


def test_markdown_carries_header_footer_and_how_the_numbers_were_made() -> None:
    made = ("command: `cifar-lab run-ablation se_ratio`", "hardware: EPYC, 2 cores")
    of = replace(comparison(CONTROL, row(n=3)), others=("--scale small --data cifar10",), made=made)
    assert all(line in as_markdown(of) for line in [*table_notes.header(of), *table_notes.footer(of), *made])

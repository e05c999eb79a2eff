"""`compare` in a terminal: what fits, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made.comparisons import NOTHING, UNCOMPARED, comparison, row
from rich.console import Console

from cifar_lab.cli import console, run
from cifar_lab.cli.compare import print_comparison
from cifar_lab.results.comparison import ComparisonRow
from cifar_lab.results.stats.convergence import EpochsToThreshold

WIDTH = 100


def wide(variant: str, **changed: Any) -> ComparisonRow:
    """A row in which every column says something, at its widest."""
    found, gained = EpochsToThreshold(mean=104.5, reached=2, of=3), EpochsToThreshold(mean=-104.5, reached=1, of=3)
    fields: dict[str, Any] = {
        "against": "cosine", "n": 10, "difference": -0.10456, "difference_std": 0.1034, "interval": (-0.2111, -0.1001),
        "welch": (-0.2222, -0.1001), "p_value": 0.0001, "p_holm": 0.0002, "p_exact": False, "verdict": "equivalent",
        "pairs": 10, "seconds": 36_610.4, "gap": 0.1034, "gap_difference": -0.1034, "auc": 0.8, "auc_difference": -0.1,
        "rises": (-0.1,), "epochs": 200, "epochs_to": {"0.7": found}, "epochs_to_difference": {"0.7": gained},
        "parameters_trained": 299_290, "seeds_needed": {"0.1": 9999, "0.2": 2543, "0.5": 388},
    }  # fmt: skip
    return row(variant, **(fields | changed))


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *rows: ComparisonRow, everything: bool = True,
    **terminal: Any,
) -> list[str]:  # fmt: skip
    monkeypatch.setattr(console, "out", Console(highlight=False, **({"width": WIDTH} | terminal)))
    print_comparison(comparison(*rows, ablation="lr_schedule", control="cosine"), everything=everything)
    return capsys.readouterr().out.splitlines()


def test_a_result_is_one_table_with_one_sentence_and_the_notes_that_matter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    control = row("cosine", against=None, **UNCOMPARED)
    worse = row(
        "step", against="cosine", verdict="worse", n=4, failed=1, values=dict.fromkeys(range(4), 0.9), rises=(0.02,),
        epochs=10,
    )  # fmt: skip
    lines = printed(monkeypatch, capsys, control, worse, everything=False)
    assert [line.split()[0] for line in lines[3:6]] == ["variant", "cosine", "step"]
    assert lines[4].split()[-1] == "control"
    assert lines[5].split()[-3:] == ["worse", "1", "failed"]
    assert lines[7:] == [
        "step is worse than cosine by 0.46 points (interval -0.88 to -0.03).",
        "Of 10 cells, 1 failed.",
        "still rising: step +2.0 points in the last epoch of 10: a longer training may change the order",
        "interval: 95 % confidence; --all shows more",
    ]


def test_verdicts_have_colours_on_a_terminal_and_none_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (row("cosine", against=None, **UNCOMPARED), row("step", against="cosine", verdict="worse"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    on_terminal: dict[str, Any] = {"force_terminal": True, "color_system": "standard"}
    assert any("\x1b[31mworse" in line for line in printed(monkeypatch, capsys, *rows, **on_terminal))
    assert not any("\x1b" in line for line in printed(monkeypatch, capsys, *rows))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any("\x1b[31m" in line for line in printed(monkeypatch, capsys, *rows, **on_terminal))


def test_legends_wrap_at_words_and_explain_columns_that_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (row("cosine", against=None, **UNCOMPARED), row("step", against="cosine", effect=None))
    monkeypatch.setattr(console, "is_terminal", lambda _: True)
    lines = printed(monkeypatch, capsys, *rows, width=60, color_system=None)
    assert max(len(line.rstrip()) for line in lines) <= 60
    words = " ".join(line.strip() for line in lines)
    assert "Welch: the interval without pairing" in words
    assert "effect: Δ over its deviation" not in words
    assert "trained: of the smaller network" not in words


def test_every_table_fits_in_a_hundred_columns_with_the_longest_name_of_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(monkeypatch, capsys, wide("cosine"), wide("warm_restarts"))
    heads = [i for i, line in enumerate(lines) if line.startswith("variant")]
    assert len(heads) == 5, "the table of evidence is folded"
    for head in heads:
        table = lines[head : head + 3]
        assert max(len(line.rstrip()) for line in table) <= WIDTH
        assert [line.split()[0] for line in table] == ["variant", "cosine", "warm_restarts"], "a row was wrapped"
        assert not any("…" in line for line in table)
    assert "epochs to 70 %  Δ epochs" in re.sub(" {2,}", "  ", lines[heads[2]])
    assert "104.5 (2 of 3)" in lines[heads[2] + 1]


def test_what_is_not_known_before_a_cell_is_finished_has_no_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(monkeypatch, capsys, NOTHING)
    assert sum(line.startswith("variant") for line in lines) == 2, "the result, and the costs"
    assert not any("AUC" in line for line in lines)


@pytest.mark.parametrize("more", [["--scale", "small"], ["--data", "synthetic"], ["train.epochs=3"]])
def test_an_invocation_names_a_whole_setting(
    more: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = ["compare", "se_ratio", *more, "--invocation", "20261122T210000.000-se_ratio", "--runs", str(tmp_path)]
    assert run(line) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--invocation" in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_cells_of_an_ablation_whose_file_is_broken_since_are_compared(
    runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for variant, accuracy in (("r16", 0.75), ("r4", 0.5)):
        runs.end(runs.cell(variant, 0), accuracy)
    runs.ask([runs.cell("r16", 0), runs.cell("r4", 0)])
    (mine := tmp_path / "mine").mkdir()
    (mine / "se_ratio.py").write_text("import package_that_is_gone\n")
    words = ["--ablations", str(mine), "--runs", str(runs.folder)]
    assert run(["compare", "se_ratio", *words]) == 0
    said = capsys.readouterr()
    assert "75.00" in said.out
    assert "warning: se_ratio.py:1: ModuleNotFoundError" in said.err
    (mine / "noise_floor.py").write_text("import package_that_is_gone\n")
    assert run(["compare", "noise_floor", *words]) == 2, "nothing was run by that name"

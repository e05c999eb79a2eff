"""`compare` in a terminal: what fits, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cifar_lab.cli import console, run
from cifar_lab.cli.results import print_comparison
from cifar_lab.report.comparison import Comparison, Row
from cifar_lab.stats.convergence import Reached

WIDTH = 100


def row(variant: str, **changed: Any) -> Row:
    """A row in which every column says something, at its widest."""
    found, gained = Reached(mean=104.5, reached=2, of=3), Reached(mean=-104.5, reached=1, of=3)
    fields: dict[str, Any] = {
        "against": "cosine", "n": 10, "mean": 0.91234, "std": 0.1012, "difference": -0.10456, "difference_std": 0.1034,
        "interval": None, "p_value": None, "verdict": None, "pairs": 10, "missing": 0, "running": 0, "failed": 0,
        "diverged": 0, "mixed_execution": False, "parameters": 4_699_290, "parameters_trained": 4_699_290,
        "macs": 798_690_304, "seconds": 36_610.4, "images_seen": 9e6, "gap": 0.1034, "gap_difference": -0.1034,
        "auc": 0.8, "auc_difference": -0.1, "rises": (-0.1,), "epochs": 200, "epochs_to": {"0.7": found},
        "epochs_to_difference": {"0.7": gained},
    }  # fmt: skip
    return Row(variant=variant, **(fields | changed))


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *rows: Row) -> list[str]:
    monkeypatch.setattr(console, "out", Console(highlight=False, width=WIDTH))
    comparison = Comparison(
        ablation="lr_schedule", scale="writeup", protocol="holdout", metric="test/acc", control="cosine",
        data="CIFAR-10", overrides={}, invocation="20261122T210000.000-lr_schedule", invocations=1, rows=rows,
    )  # fmt: skip
    print_comparison(comparison)
    return capsys.readouterr().out.splitlines()


def test_both_tables_fit_in_a_hundred_columns_with_the_longest_name_of_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(monkeypatch, capsys, row("cosine"), row("warm_restarts"))
    heads = [i for i, line in enumerate(lines) if line.startswith("variant")]
    assert len(heads) == 2
    assert len(lines[heads[1] - 1]) <= WIDTH
    for head in heads:
        table = lines[head : head + 3]
        assert max(len(line.rstrip()) for line in table) <= WIDTH
        assert [line.split()[0] for line in table] == ["variant", "cosine", "warm_restarts"], "a row was wrapped"
        assert not any("…" in line for line in table)
    assert "epochs to 70 %  Δ epochs" in re.sub(" {2,}", "  ", lines[heads[1]])
    assert "104.5 (2 of 3)" in lines[heads[1] + 1]


def test_the_second_table_is_not_there_before_a_cell_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = {"gap": None, "gap_difference": None, "auc": None, "auc_difference": None, "rises": (), "epochs": None}
    empty = row("cosine", n=0, epochs_to={}, epochs_to_difference={}, images_seen=None, **nothing)
    lines = printed(monkeypatch, capsys, empty)
    assert sum(line.startswith("variant") for line in lines) == 1
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

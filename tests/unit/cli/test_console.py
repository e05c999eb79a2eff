"""Words for counts, and tables."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from cifar_lab.cli import console
from cifar_lab.text import many

COLUMNS = ("cell", "a longer heading", "what differs")
ROWS = [
    ("r2/s0", 1, None),
    ("卷积/s1", 12_345, "stem = 3, 图 = 1"),
    ("three\nlines\nhere", 0.5, "schedule.name = cosine"),
]


def shown(table: Table, width: int) -> str:
    written = io.StringIO()
    Console(file=written, width=width, highlight=False).print(table)
    return written.getvalue()


def by_rich() -> Table:
    """The same table, whose widths are left to rich."""
    made = Table(title="t", title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in COLUMNS:
        is_number = column == COLUMNS[1]
        made.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in ROWS:
        made.add_row(*("" if value is None else str(value) for value in row))
    return made


def test_one_is_singular_and_all_else_is_not() -> None:
    assert [many(n, "cell") for n in (0, 1, 2, 1200)] == ["0 cells", "1 cell", "2 cells", "1,200 cells"]


@pytest.mark.parametrize("width", [51, 52, 53, 60, 120])
def test_a_table_looks_as_if_rich_had_found_its_widths(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", Console(width=width))
    monkeypatch.setattr(console, "err", Console(width=200))
    assert shown(console.table("t", COLUMNS, ROWS, right=COLUMNS[1:2]), width) == shown(by_rich(), width)


def test_widths_are_given_where_all_fits_on_both_streams_and_not_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", Console(width=120))
    monkeypatch.setattr(console, "err", Console(width=120))
    assert [column.width for column in console.table("t", COLUMNS, ROWS).columns] == [7, 16, 22]
    monkeypatch.setattr(console, "err", Console(width=40))
    assert [column.width for column in console.table("t", COLUMNS, ROWS).columns] == [7, 13, 14]
    monkeypatch.setattr(console, "err", Console(width=43))
    assert [column.width for column in console.table("t", COLUMNS, ROWS, whole=COLUMNS[2:]).columns] == [7, 8, 22]
    monkeypatch.setattr(console, "err", Console(width=25))
    assert [column.width for column in console.table("t", COLUMNS, ROWS).columns] == [None, None, None]


def test_the_widest_columns_are_wrapped_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", Console(width=80))
    setting = "scale small · cifar10-jpeg · data.train_fraction=0.2 train.precision=bf16"
    row = ("policies_x_mixing", setting, 12, "9 finished, 1 running", "2026-11-28 06:02")
    columns = ("ablation", "setting", "cells", "of these", "asked for")
    made = console.table("", columns, [row], right=("cells",), whole=("ablation", "asked for"))
    lines = shown(made, 80).splitlines()
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    assert {word for text in (*columns, *map(str, row)) for word in text.split()} == words


def test_brackets_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", Console(width=120))
    table = console.table("[red] t", ("variant", "95 % [low, high]"), [("[bold]", "[0.1, 0.2] :boom:")])
    assert shown(table, 120).startswith("[red] t")
    assert "[bold]   [0.1, 0.2] :boom:" in shown(table, 120)
    assert "95 % [low, high]" in shown(table, 120)


def test_a_word_that_is_longer_than_its_column_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = Console(width=16)
    monkeypatch.setattr(console, "out", narrow)
    narrow.print(console.table("", ["setting"], [["data.train_fraction=0.2"]]))
    assert "".join(capsys.readouterr().out.split()) == "settingdata.train_fraction=0.2"

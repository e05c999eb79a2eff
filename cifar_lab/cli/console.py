"""Where words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cifar_lab.cli.streams import steady
from cifar_lab.text import printable

out = Console(highlight=False)
err = Console(file=steady, highlight=False)

GAP = 2
"""Blanks between two columns of a table."""


def say(line: str) -> None:
    """Print one line of progress or warning on standard error; it may hold text from outside."""
    err.print(printable(line), markup=False, soft_wrap=True)


def print_json(tree: object) -> None:
    """`tree` on standard output, indented; nothing else goes there."""
    print(json.dumps(tree, indent=1, allow_nan=False))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], *, right: Iterable[str] = ()) -> Table:
    """A plain table, in which brackets are brackets; columns named in `right` are numbers.

    Where all of it fits, its columns are given their widths: rich would lay out each cell twice more to find them.
    """
    made = Table(
        title=escape(title), title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0)
    )
    columns, numbers = list(columns), set(right)
    shown = [[_shown(value) for value in row] for row in rows]
    for column, width in zip(columns, _widths(columns, shown), strict=True):
        is_number = column in numbers
        made.add_column(Text(column), justify="right" if is_number else "left", no_wrap=is_number, width=width)
    for row in shown:
        made.add_row(*row)
    return made


def _shown(value: object) -> Text:
    """Return the text of a cell; its lines stay, other control characters are escaped. A `Text` keeps its style."""
    if isinstance(value, Text):
        return value
    return Text("\n".join(map(printable, str("" if value is None else value).split("\n"))))


def _widths(columns: list[str], rows: list[list[Text]]) -> list[int | None]:
    """Of each column, in characters; None for all where they do not fit side by side, and rich has to wrap some."""
    cells = [[cell_len(column), *(_width(row[i]) for row in rows)] for i, column in enumerate(columns)]
    widths = [max(column) for column in cells]
    fits = sum(widths) + GAP * len(widths) <= min(out.width, err.width)
    return [width if fits else None for width in widths]


def _width(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split("\n")))


def many(count: int, noun: str) -> str:
    """`1 cell`, `12 cells`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h` or `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"

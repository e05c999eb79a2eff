"""Console output: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cifar_lab.cli.std_streams import steady
from cifar_lab.object_store import with_addresses
from cifar_lab.terminal import is_terminal
from cifar_lab.text import duration as duration
from cifar_lab.text import printable

out = Console(highlight=False)
err = Console(file=steady, highlight=False)

GAP = 2
"""Spaces between two columns of a table."""


@contextmanager
def reserved_for_results() -> Iterator[None]:
    """Reserve standard output for what this module prints there: all other prints, of users' code, go to stderr."""
    out.file = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        out.file = None  # type: ignore[assignment]  # the standard output of the moment


def say(line: str) -> None:
    """Print one line of progress or warning on standard error; control characters in it are escaped."""
    err.print(printable(with_addresses(line)), markup=False, soft_wrap=True)


def show(line: str, style: str = "") -> None:
    """Print one line of results on standard output, whole and without markup; control characters are escaped."""
    out.print(printable(line), style=style, markup=False, soft_wrap=True)


def show_wrapped(line: str, style: str = "") -> None:
    """Print one line of results, wrapped at words where a terminal shows it; whole elsewhere."""
    out.print(line, style=style, markup=False, soft_wrap=not is_terminal(out.file))


def print_json(tree: object) -> None:
    """Print `tree` as indented JSON on standard output; nothing else is printed there."""
    write(json.dumps(tree, indent=1, allow_nan=False))


def write(text: str, end: str = "\n") -> None:
    """Write a text for programs on standard output, as it is and at once."""
    print(text, end=end, file=out.file, flush=True)


def say_damage(lines: Iterable[str]) -> int:
    """Print each damage once, on standard error; return the exit code: 1 if there is any."""
    distinct = list(dict.fromkeys(lines))
    for line in distinct:
        say(f"damaged, and not used: {line}")
    return 1 if distinct else 0


def table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], *,
    right: Iterable[str] = (), whole: Iterable[str] = (), gap: int = GAP,
) -> Table:  # fmt: skip
    """Create a plain table, without markup, `gap` spaces between columns.

    Columns named in `right` are numbers; they and those in `whole` are not wrapped. The others are wrapped at words
    where the table is wider than the terminal. Where even that does not fit, words are broken: nothing is cut.
    """
    made = Table(
        title=escape(title), title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0)
    )
    columns, numbers = list(columns), set(right)
    unwrapped = numbers | set(whole)
    shown = [[_shown(value) for value in row] for row in rows]
    for column, width in zip(columns, _widths(columns, shown, unwrapped, gap), strict=True):
        justify: Literal["right", "left"] = "right" if column in numbers else "left"
        made.add_column(Text(column), justify=justify, no_wrap=column in unwrapped, width=width, overflow="fold")
    for row in shown:
        made.add_row(*row)
    return made


def _shown(value: object) -> Text:
    """Return the text of a cell; line breaks are kept, other control characters escaped. A `Text` keeps its style."""
    if isinstance(value, Text):
        return value
    return Text("\n".join(map(printable, str("" if value is None else value).split("\n"))))


def _widths(columns: list[str], rows: list[list[Text]], unwrapped: set[str], gap: int) -> Sequence[int | None]:
    """Return the width of each column in characters: the widest are narrowed until the table fits.

    A column is as wide as its longest word, or as its longest line if it is in `unwrapped`. None for all if that is
    too wide, and rich must break words.
    """
    cells = [[column, *(row[i].plain for row in rows)] for i, column in enumerate(columns)]
    widths = [max(_width(cell.split("\n")) for cell in column) for column in cells]
    least = [
        width if column in unwrapped else max(_width(cell.split()) for cell in texts)
        for column, width, texts in zip(columns, widths, cells, strict=True)
    ]
    room = min(out.width, err.width) - gap * len(widths)
    if sum(least) > room:
        return [None] * len(widths)
    while sum(widths) > room:
        widest = max((i for i, width in enumerate(widths) if width > least[i]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _width(parts: Iterable[str]) -> int:
    return max(map(cell_len, parts), default=0)

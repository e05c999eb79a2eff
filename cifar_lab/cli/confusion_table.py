"""Confusion of classes as a table that fits the terminal: the matrix, or its largest entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.table import Table

from cifar_lab.cli import console
from cifar_lab.text import many, printable

SHORTEST = 3
"""Minimum length to which names in the header are cut; beyond that classes have numbers instead."""
MOST = 20
"""Maximum number of confusions listed where the matrix is too wide."""


def confusion_table(classes: Sequence[str], counts: Sequence[Sequence[int]], width: int) -> tuple[str, Table]:
    """Return a heading and a table of at most `width` characters.

    The header has the names, cut to what fits if they stay distinct, else numbers, which the rows repeat. A matrix that
    is too wide for numbers is replaced by its largest entries off the diagonal.

    Args:
        classes: names in the order of rows and columns.
        counts: images by label (row) and prediction (column).
    """
    names = [printable(name) for name in classes]
    for labels, header in _headers(names):
        if len(set(header)) == len(header) and _width(labels, header, counts) <= width:
            rows = [[label, *row] for label, row in zip(labels, counts, strict=True)]
            table = console.table("", ["", *header], rows, right=header)
            return "confusion: rows are labels, columns predictions", table
    return _largest(names, counts)


def _headers(names: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield labels of rows and of columns: whole names, names cut shorter and shorter, numbers."""
    for longest in range(max(map(cell_len, names)), SHORTEST - 1, -1):
        yield [*names], [_cut(name, longest) for name in names]
    numbers = [str(number) for number in range(len(names))]
    yield [f"{number} {name}" for number, name in zip(numbers, names, strict=True)], numbers


def _cut(name: str, longest: int) -> str:
    return name if cell_len(name) <= longest else set_cell_size(name, longest).rstrip()


def _width(labels: Sequence[str], header: Sequence[str], counts: Sequence[Sequence[int]]) -> int:
    """Return the width of the table in characters."""
    columns = [
        max(cell_len(name), *(len(str(count)) for count in column))
        for name, column in zip(header, zip(*counts, strict=True), strict=True)
    ]
    widths = [max(map(cell_len, labels)), *columns]
    return sum(widths) + console.GAP * len(widths)


def _largest(names: Sequence[str], counts: Sequence[Sequence[int]]) -> tuple[str, Table]:
    confused = sorted(
        (-count, label, predicted)
        for label, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if count and label != predicted
    )
    rows = [
        [names[label], names[predicted], -count, f"{-100 * count / sum(counts[label]):.1f}"]
        for count, label, predicted in confused[:MOST]
    ]
    columns = ["label", "prediction", "images", "% of the label"]
    shown = f"the {len(rows)} most frequent of {many(len(confused), 'confusion')}" if rows else "no confusions"
    return f"{shown}; -o FILE.json has the whole matrix", console.table("", columns, rows, right=columns[2:])

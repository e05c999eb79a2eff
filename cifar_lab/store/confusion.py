"""The confusion matrix of a cell as CSV: `confusion.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a formula in a spreadsheet."""


def format_confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return `confusion.csv`: a header of classes, then for each label a row of counts by predicted class."""
    buffer = io.StringIO()
    names = [_as_text(name) for name in classes]
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["label", *names])
    table.writerows([name, *row] for name, row in zip(names, counts, strict=True))
    return buffer.getvalue()


def _as_text(name: str) -> str:
    """Return a class name that spreadsheets do not read as a formula: OWASP advises a leading quote."""
    return f"'{name}" if name.startswith((*FORMULA, "'")) else name


def parse_confusion(text: str) -> tuple[list[str], list[list[int]]]:
    """Return the classes and the counts of `confusion.csv`, one row of counts for each label."""
    header, *rows = csv.reader(io.StringIO(text))
    return [name.removeprefix("'") for name in header[1:]], [[int(count) for count in row[1:]] for row in rows]

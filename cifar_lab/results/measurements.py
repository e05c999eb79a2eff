"""Measurements that other programs made, as a table with one line per training."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.errors import UsageError, nearest

Measurements = dict[str, dict[str, float | None]]
"""Value by variant and seed; None where a training came to no number."""
LARGEST = 64 * 2**20
"""Bytes of the largest file that is read."""
MOST = 1e100
"""Largest number that can be squared and summed."""
NO_NUMBER = frozenset({"", "nan", "none", "null", "na", "inf", "-inf", "diverged", "failed"})
"""Words of a training that came to no number."""


def read_table(file: Path) -> str:
    """Return the text of a file.

    Raises:
        UsageError: it is no file, empty, too large, or not UTF-8.
    """
    if not file.is_file():
        raise UsageError(f"{file}: {'a folder; a file is wanted' if file.is_dir() else 'no such file'}")
    if file.stat().st_size > LARGEST:
        raise UsageError(f"{file} has {file.stat().st_size:,} bytes; at most {LARGEST:,} are read")
    if not file.stat().st_size:
        raise UsageError(f"{file} is empty; a header and rows are wanted")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start})") from error


@dataclass(frozen=True)
class MeasurementTable:
    """Table with one row per training, whatever its columns are called."""

    name: str
    """Name of the file or store, for errors."""
    columns: Sequence[str]
    rows: Iterable[tuple[str, Mapping[str, str | None]]]
    """Where a row stands, for errors, and its text by column."""


def parse_csv(text: str, name: str) -> MeasurementTable:
    """Return the table of a CSV text with a header; separated by commas, semicolons or tabs. Rows are read when used.

    Raises:
        UsageError: the header is no CSV; the rows raise it too.
    """
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)

    def rows() -> Iterator[tuple[str, Mapping[str, str | None]]]:
        try:
            for row in lines:
                yield f"{name}, line {lines.line_num}", row
        except csv.Error as error:
            raise UsageError(f"{name}, line {lines.line_num}: {error}") from error

    try:
        lines.fieldnames = [column.strip() for column in lines.fieldnames or []]
    except csv.Error as error:
        raise UsageError(f"{name}, line {lines.line_num}: {error}") from error
    return MeasurementTable(name, lines.fieldnames, rows())


def read_measurements(table: MeasurementTable, columns: tuple[str, str, str]) -> Measurements:
    """Return the values by variant and seed, in the order of the table.

    Args:
        table: one row per training.
        columns: names of the columns of variant, seed and value.

    Raises:
        UsageError: a column is missing, a value is no number, or a variant has a seed twice.
    """
    for column, option in zip(columns, ("--variant", "--seed", "--value"), strict=True):
        count = list(table.columns).count(column)
        if not count:
            close = nearest(column, table.columns)
            raise UsageError(f"{table.name} has no column '{column}'{close}; {option} names another")
        if count > 1:
            raise UsageError(f"{table.name} has column '{column}' {count} times; which one is meant?")
    values: Measurements = {}
    for where, row in table.rows:
        variant, seed, said = ((row[column] or "").strip() for column in columns)
        if not variant or not seed:
            raise UsageError(f"{where}: a variant and a seed are needed, got '{variant}' and '{seed}'")
        own = values.setdefault(variant, {})
        if seed in own:
            raise UsageError(f"{where}: variant '{variant}' has seed {seed} twice")
        own[seed] = _number(said, f"{where}, column '{columns[2]}'")
    if not values:
        raise UsageError(f"{table.name} has no rows")
    return values


def _number(text: str, where: str) -> float | None:
    if text.lower() in NO_NUMBER:
        return None
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise UsageError(f"{where}: '{text[:40]}' is no number") from None
    if not math.isfinite(number):
        return None
    if abs(number) > MOST:
        raise UsageError(f"{where}: '{text[:40]}' is too large to be a measurement")
    return number

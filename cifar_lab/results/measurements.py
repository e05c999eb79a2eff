"""Measurements that other programs made, as a table with one line per training."""

from __future__ import annotations

import csv
import io
import math
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
        UsageError: it is no file, too large, or not UTF-8.
    """
    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    if file.stat().st_size > LARGEST:
        raise UsageError(f"{file} has {file.stat().st_size:,} bytes; at most {LARGEST:,} are read")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start})") from error


def parse_measurements(text: str, name: str, columns: tuple[str, str, str]) -> Measurements:
    """Return the values by variant and seed, in the order of the file.

    Args:
        text: a CSV table with a header; separated by commas, semicolons or tabs.
        name: of the file, for errors.
        columns: names of the columns of variant, seed and value.

    Raises:
        UsageError: a column is missing, a value is no number, or a variant has a seed twice.
    """
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in rows.fieldnames or []]
        rows.fieldnames = header
        for column, option in zip(columns, ("--variant", "--seed", "--value"), strict=True):
            if column not in header:
                raise UsageError(f"{name} has no column '{column}'{nearest(column, header)}; {option} names another")
            if header.count(column) > 1:
                raise UsageError(f"{name} has column '{column}' {header.count(column)} times; which one is meant?")
        values: Measurements = {}
        for row in rows:
            variant, seed, said = ((row[column] or "").strip() for column in columns)
            where = f"{name}, line {rows.line_num}"
            if not variant or not seed:
                raise UsageError(f"{where}: a variant and a seed are needed, got '{variant}' and '{seed}'")
            own = values.setdefault(variant, {})
            if seed in own:
                raise UsageError(f"{where}: variant '{variant}' has seed {seed} twice")
            own[seed] = _number(said, f"{where}, column '{columns[2]}'")
    except csv.Error as error:
        raise UsageError(f"{name}, line {rows.line_num}: {error}") from error
    if not values:
        raise UsageError(f"{name} has no rows")
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

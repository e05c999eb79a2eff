"""Measurements that other programs made, as a table with one line per training."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.errors import UsageError, nearest
from cifar_lab.text import many

Measurements = dict[str, dict[str, float | None]]
"""Value by variant and seed; None where a training came to no number."""
LARGEST = 64 * 2**20
"""Bytes of the largest file that is read."""
MOST = 1e100
"""Largest number that can be squared and summed."""
NO_NUMBER = frozenset({"", "nan", "none", "null", "na", "inf", "-inf", "diverged", "failed"})
"""Words of a training that came to no number."""
EXACT = 2**53
"""Whole numbers below this are exact as floating-point numbers."""
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+%?")
FAR = 10
"""Least ratio of the smallest per cent to the largest fraction where the two are mixed."""


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

    Blank rows are left out.

    Raises:
        UsageError: the header is no CSV; the rows raise it too, and where one has more or fewer fields than the header.
    """
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)

    def rows() -> Iterator[tuple[str, Mapping[str, str | None]]]:
        try:
            for fields in lines:
                where = f"{name}, line {lines.line_num}"
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(header):
                    hint = _decimal_comma(fields) if len(fields) > len(header) and delimiter == "," else ""
                    count = f"{many(len(fields), 'field')}, the header has {len(header)}"
                    raise UsageError(f"{where} has {count}{hint}")
                yield where, dict(zip(header, fields, strict=True))
        except csv.Error as error:
            raise UsageError(f"{name}, line {lines.line_num}: {error}") from error

    try:
        header = [column.strip() for column in next(lines, [])]
    except csv.Error as error:
        raise UsageError(f"{name}, line {lines.line_num}: {error}") from error
    return MeasurementTable(name, header, rows())


def _decimal_comma(fields: Sequence[str]) -> str:
    """Return a hint at decimal commas where two neighbouring fields could be the halves of a number, else nothing."""
    pairs = (f"{whole.strip()},{digits.strip()}" for whole, digits in itertools.pairwise(fields))
    is_likely = any(DECIMAL_COMMA.fullmatch(pair) for pair in pairs)
    return "; a number with a decimal comma is two fields: write a decimal point" if is_likely else ""


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
        seed = _seed(seed)
        if seed in own:
            raise UsageError(f"{where}: variant '{variant}' has seed {seed} twice")
        own[seed] = _number(said, f"{where}, column '{columns[2]}'")
    if not values:
        raise UsageError(f"{table.name} has no rows")
    return values


def _seed(text: str) -> str:
    """Return the name of a seed; a whole number has one name, however it is written: `3`, `3.0`, `03` and `3e0`."""
    try:
        number = float(text)
    except ValueError:
        return text
    is_whole = number.is_integer() and abs(number) < EXACT and "_" not in text
    return str(int(number)) if is_whole else text


def _number(text: str, where: str) -> float | None:
    if text.lower() in NO_NUMBER:
        return None
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        hint = "; write a decimal point" if DECIMAL_COMMA.fullmatch(text) else ""
        raise UsageError(f"{where}: '{text[:40]}' is no number{hint}") from None
    if not math.isfinite(number):
        return None
    if abs(number) > MOST:
        raise UsageError(f"{where}: '{text[:40]}' is too large to be a measurement")
    return number


def digest_rows(values: Measurements) -> str:
    """Return the SHA-256 of the variants, seeds and values, whatever the order and the form they were read in."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def doubt_unit(values: Measurements, margin: float) -> str | None:
    """Return a line about values or a margin that seem to mix fractions and per cent; None where nothing does."""
    numbers = {value: name for name, own in reversed(values.items()) for value in own.values() if value is not None}
    if not numbers or min(numbers) < 0 or max(numbers) > 100:
        return None
    low, high = min(numbers), max(numbers)
    if high <= 1:
        if not 0 < high - low < margin:
            return None
        return (
            f"--margin {margin:g} is more than the whole range of the values, {low:g} to {high:g}; "
            f"if they are fractions and it is in points, write {margin / 100:g}"
        )
    fraction = max((each for each in numbers if 0 < each <= 1), default=None)
    percent = min(each for each in numbers if each > 1)
    if fraction is None or percent < FAR * fraction:
        return None
    return (
        f"'{numbers[fraction]}' has {fraction:g} and '{numbers[percent]}' has {percent:g}: fractions and per cent seem "
        "to be mixed; one unit is wanted"
    )

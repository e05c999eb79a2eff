"""`judge`: intervals and verdicts for numbers that were made elsewhere."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.errors import UsageError, nearest
from cifar_lab.text import printable

if TYPE_CHECKING:
    from cifar_lab.stats.referee import Verdict

Values = dict[str, dict[str, float | None]]
LARGEST = 64 * 2**20
"""Bytes of the largest file that is read."""
MOST = 1e100
"""Largest number that can be squared and summed."""
PATIENCE = 20.0
"""Seconds after which a ledger that another process holds is given up."""
NO_NUMBER = frozenset({"", "nan", "none", "null", "na", "inf", "-inf", "diverged", "failed"})
"""Words of a training that came to no number."""


def judge(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Table with a header; one line per training.")],
    control: Annotated[str, typer.Option(help="Variant that the others are compared with.")],
    margin: Annotated[
        float, typer.Option(help="Difference that does not matter, in the unit of the values; state it beforehand.")
    ],
    variant: Annotated[str, typer.Option(help="Column of the variant.")] = "variant",
    seed: Annotated[str, typer.Option(help="Column of the seed.")] = "seed",
    value: Annotated[str, typer.Option(help="Column of the value.")] = "value",
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Judge losses or errors.")] = False,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep an account of all looks here, and widen intervals for each."),
    ] = None,
    as_json: o.Json = False,
) -> int:
    """Judge numbers made elsewhere: paired by seed where seeds match, else Welch; all intervals hold together."""
    if not (math.isfinite(margin) and margin > 0):
        raise UsageError(f"--margin {margin:g}: a difference that does not matter is above 0")
    text = _read(file)
    values = parse(text, str(file), (variant, seed, value))
    if control not in values:
        raise UsageError(f"--control {control}: {file} has no such variant{nearest(control, values)}")
    if len(values) < 2:
        raise UsageError(f"{file}: '{control}' is the only variant; there is nothing to compare it with")
    from cifar_lab.stats import referee

    look, confidence = 0, None
    if ledger is not None:
        digest, columns = hashlib.sha256(text.encode()).hexdigest(), {"variant": variant, "seed": seed, "value": value}
        asked = {"control": control, "margin": margin, **columns, "lower_is_better": lower_is_better}
        look = _enter(ledger, {"file": str(file), "sha256": digest, **asked})
        confidence = 1 - (1 - referee.CONFIDENCE) * referee.share_of_look(look)
    found = referee.judge(values, control, margin, confidence=confidence, lower_is_better=lower_is_better)
    if as_json:
        rows = [asdict(each) for each in found]
        console.print_json({
            "control": control, "margin": margin, "confidence": confidence or referee.CONFIDENCE, "look": look or None,
            "comparisons": len(found) - 1, "rows": rows,
        })  # fmt: skip
    else:
        _print(found, control, margin, look, confidence)
    return 0


def _read(file: Path) -> str:
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


def parse(text: str, name: str, columns: tuple[str, str, str]) -> Values:
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
        values: Values = {}
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


def _enter(ledger: Path, asked: Mapping[str, Any]) -> int:
    """Return the number of this look; one at the same numbers with the same question is no new one.

    The name of the file does not matter: only its content does.

    Raises:
        UsageError: the ledger cannot be written, or has a line that is not one.
    """
    from filelock import FileLock

    from cifar_lab.tracking import atomic

    if not ledger.parent.is_dir() or (ledger.exists() and not ledger.is_file()):
        raise UsageError(f"--ledger {ledger}: {'not a file' if ledger.exists() else 'its folder does not exist'}")
    try:
        with FileLock(f"{ledger}.lock", timeout=PATIENCE):
            text = ledger.read_text(encoding="utf-8") if ledger.exists() else ""
            questions = [_question(entry) for entry in _entries(text, ledger)]
            if _question(asked) in questions:
                return questions.index(_question(asked)) + 1
            whole = (text if text.endswith("\n") or not text else f"{text}\n") + json.dumps(asked) + "\n"
            atomic.write(ledger, lambda file: file.write(whole.encode()))
            return len(questions) + 1
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"--ledger {ledger} cannot be read and written: {why}") from error


def _question(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "file"}


def _entries(text: str, ledger: Path) -> list[dict[str, Any]]:
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "sha256" not in entry:
            raise UsageError(
                f"{ledger}, line {number}: not an entry of a ledger of looks; delete it if writing it was interrupted"
            )
        entries.append(entry)
    return entries


def _print(found: list[Verdict], control: str, margin: float, look: int, confidence: float | None) -> None:
    digits = max(2, 1 - math.floor(math.log10(margin)))
    headings = ["variant", "n", "mean", "± std", "Δ", "interval", "verdict", "note"]

    def shown(number: float | None, form: str = "") -> str:
        return "" if number is None else f"{number:{form}.{digits}f}"

    rows = [
        [
            printable(each.variant), each.n, shown(each.mean), shown(each.std), shown(each.difference, "+"),
            "" if each.interval is None else f"[{shown(each.interval[0], '+')}, {shown(each.interval[1], '+')}]",
            "control" if each.variant == control else each.verdict or "", _note(each),
        ]
        for each in found
    ]  # fmt: skip
    shown_headings = headings if any(row[-1] for row in rows) else headings[:-1]
    console.out.print(
        console.table("", shown_headings, [row[: len(shown_headings)] for row in rows], right=headings[1:5])
    )
    console.out.print()
    for line in _footer(found, margin, digits, look, confidence):
        console.out.print(line, style="dim", markup=False, soft_wrap=True)


def _note(each: Verdict) -> str:
    lost = f"{each.lost} without a number" if each.lost else ""
    paired = f"Δ over {each.pairs} of {each.n} seeds" if 0 < each.pairs < each.n else ""
    return "; ".join(part for part in (each.reason, lost, paired) if part)


def _footer(found: list[Verdict], margin: float, digits: int, look: int, confidence: float | None) -> Iterator[str]:
    from cifar_lab.stats.decide import RULE
    from cifar_lab.stats.referee import CONFIDENCE, METHODS

    methods = [METHODS[method] for method in dict.fromkeys(each.method for each in found if each.method is not None)]
    many = len(found) - 1
    together = f" together ({many} differences)" if many > 1 else ""
    yield f"interval: {100 * CONFIDENCE:.0f} %{together}; {' or '.join(methods)}"
    yield f"margin: {margin:.{digits}f}; {RULE}"
    if confidence is not None:
        yield f"look {look} of this ledger: {100 * confidence:.2f} %, so that the intervals of all looks hold together"

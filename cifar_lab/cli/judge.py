"""`judge`: intervals and verdicts for numbers that were made elsewhere; `results.measurements` reads their file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.errors import UsageError, nearest
from cifar_lab.text import many, printable

if TYPE_CHECKING:
    from cifar_lab.results.measurements import Measurements
    from cifar_lab.results.stats.referee import JudgedVariant

MLFLOW = "mlflow:"
"""Prefix of a source that is an experiment instead of a file."""


def judge(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.csv|mlflow:EXPERIMENT",
            help="Table with a header, one line per training; or the runs of an MLflow experiment, logged by any "
            "program, in the store that MLFLOW_TRACKING_URI names.",
        ),
    ],
    control: Annotated[str, typer.Option(help="Variant that the others are compared with.")],
    margin: Annotated[
        float, typer.Option(help="Difference that does not matter, in the unit of the values; state it beforehand.")
    ],
    variant: Annotated[str, typer.Option(help="Column of the variant; of MLflow params.NAME.")] = "variant",
    seed: Annotated[str, typer.Option(help="Column of the seed.")] = "seed",
    value: Annotated[str, typer.Option(help="Column of the value; of MLflow metrics.NAME.")] = "value",
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
    values, earlier_digest, left_out = _read(source, (variant, seed, value))
    if control not in values:
        raise UsageError(f"--control {control}: {source} has no such variant{nearest(control, values)}")
    if len(values) < 2:
        raise UsageError(f"{source}: '{control}' is the only variant; there is nothing to compare it with")
    from cifar_lab.results.ledger import enter_look
    from cifar_lab.results.measurements import digest_rows, doubt_unit
    from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
    from cifar_lab.results.stats.referee import judge_measurements, share_of_look

    if (doubt := doubt_unit(values, margin)) is not None:
        console.say(f"warning: {doubt}")
    look, confidence = 0, None
    if ledger is not None:
        columns = {"variant": variant, "seed": seed, "value": value}
        asked = {"control": control, "margin": margin, **columns, "lower_is_better": lower_is_better}
        look = enter_look(ledger, {"file": source, "sha256": earlier_digest, "rows": digest_rows(values), **asked})
        confidence = 1 - (1 - CONFIDENCE) * share_of_look(look)
    found = judge_measurements(values, control, margin, confidence=confidence, lower_is_better=lower_is_better)
    if as_json:
        rows = [asdict(each) for each in found]
        console.print_json({
            "control": control, "margin": margin, "confidence": confidence or CONFIDENCE, "look": look or None,
            "comparisons": len(found) - 1, "rows": rows,
            "left_out": left_out,
        })  # fmt: skip
    else:
        print_judged(found, control, margin, look, confidence)
        if left_out:
            console.show(f"{many(left_out, 'run')} without a variant and a seed left out", "dim")
    return 0


def _read(source: str, columns: tuple[str, str, str]) -> tuple[Measurements, str, int]:
    """Return the values of a source, the SHA-256 of earlier ledgers, and how many of its rows are no trainings."""
    from cifar_lab.results.measurements import digest_rows, parse_csv, read_measurements, read_table

    if not source.startswith(MLFLOW):
        if ":" in source and not Path(source).exists():
            raise UsageError(f"{source}: no such file; an experiment is {MLFLOW}NAME")
        text = read_table(Path(source))
        return read_measurements(parse_csv(text, source), columns), hashlib.sha256(text.encode()).hexdigest(), 0
    from cifar_lab.mlflow_sync.experiment_table import only_trainings, read_experiment

    table, columns, left_out = only_trainings(read_experiment(source.removeprefix(MLFLOW)), columns)
    values = read_measurements(table, columns)
    return values, digest_rows(values), left_out


def print_judged(
    found: list[JudgedVariant], control: str, margin: float, look: int = 0, confidence: float | None = None
) -> None:
    """Print a table of variants with their differences to the control, and how the intervals were computed.

    Args:
        found: the variants.
        control: name of the control.
        margin: difference that does not matter, in the unit of the values.
        look: number of the look at a ledger; 0 without one.
        confidence: confidence of all intervals together, if it is not the usual one.
    """
    largest = max((abs(each.mean) for each in found if each.mean), default=margin)
    digits = max(2, 1 - math.floor(math.log10(min(margin, largest))))
    compared_with = next(each for each in found if each.variant == control)
    headings = ["variant", "n", "mean", "± std", "Δ", "interval", "verdict", "note"]

    def shown(number: float | None, form: str = "") -> str:
        return "" if number is None else f"{number:{form}.{digits}f}"

    rows = [
        [
            printable(each.variant), each.n, shown(each.mean), shown(each.std), shown(each.difference, "+"),
            "" if each.interval is None else f"[{shown(each.interval[0], '+')}, {shown(each.interval[1], '+')}]",
            "control" if each.variant == control else each.verdict or "", _note(each, compared_with),
        ]
        for each in found
    ]  # fmt: skip
    shown_headings = headings if any(row[-1] for row in rows) else headings[:-1]
    console.out.print(
        console.table("", shown_headings, [row[: len(shown_headings)] for row in rows], right=headings[1:5])
    )
    console.out.print()
    for line in _footer(found, margin, digits, look, confidence):
        console.show(line, "dim")


def _note(each: JudgedVariant, control: JudgedVariant) -> str:
    reason = each.reason if control.n or not each.n else "the control has no number"
    has_said_lost = each.reason is not None and (each.verdict is not None or not each.n)
    lost = f"{each.lost} without a number" if each.lost and not has_said_lost else ""
    seeds = each.n + control.n - each.pairs
    paired = f"Δ over {each.pairs} of {seeds} seeds" if 0 < each.pairs < seeds else ""
    return "; ".join(part for part in (reason, lost, paired) if part)


def _footer(
    found: list[JudgedVariant], margin: float, digits: int, look: int, confidence: float | None
) -> Iterator[str]:
    from cifar_lab.results.stats.decision import RULE
    from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
    from cifar_lab.results.stats.referee import METHODS

    used = dict.fromkeys(each.method for each in found if each.interval is not None and each.method is not None)
    count = len(found) - 1
    together = f" together ({count} differences)" if count > 1 else ""
    if used:
        yield f"interval: {100 * CONFIDENCE:.0f} %{together}; {' or '.join(METHODS[method] for method in used)}"
    yield f"margin: {margin:.{digits}f}; {RULE}"
    if confidence is not None:
        yield f"look {look} of this ledger: {100 * confidence:.2f} %, so that the intervals of all looks hold together"

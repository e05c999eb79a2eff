"""The forms that a comparison is printed in. All forms come from the same numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cifar_lab.report.comparison import Comparison, Row
from cifar_lab.stats.convergence import Reached

HEADINGS = (
    "variant", "n", "accuracy %", "± std", "Δ", "± std", "verdict", "parameters", "MACs", "time", "note",
)  # fmt: skip
NUMBERS = ("n", "accuracy %", "± std", "Δ", "parameters", "MACs", "time")
FIT = ("variant", "epochs to", "Δ epochs", "AUC %", "Δ AUC", "gap", "Δ gap", "rise", "images seen")
"""Of the second table: how fast each variant learned, how far it overfits, and whether it had come to rest."""


def cells(row: Row) -> list[str]:
    """The row's cells under `HEADINGS`."""
    return [
        row.variant + (" *" if row.mixed_execution else ""),
        str(row.n),
        _points(row.mean),
        _points(row.std),
        _points(row.difference, sign=True),
        _points(row.difference_std),
        row.verdict or "",
        f"{row.parameters:,}",
        f"{row.macs / 1e6:,.0f} M",
        "" if row.seconds is None else f"{row.seconds:,.0f} s",
        note(row),
    ]


def note(row: Row) -> str:
    """What is not in the mean: nothing is dropped in silence."""
    counts = {"missing": row.missing, "running": row.running, "failed": row.failed, "diverged": row.diverged}
    words = [f"{count} {word}" for word, count in counts.items() if count]
    if row.difference is not None and row.pairs < row.n:
        words.append(f"Δ over {row.pairs} seeds")
    return ", ".join(words)


def fit_cells(row: Row, threshold: str | None) -> list[str]:
    """The row's cells under `FIT`: speed of convergence, and generalisation."""
    return [
        row.variant,
        _epochs(row.epochs_to.get(threshold or "")),
        _fewer(row.epochs_to_difference.get(threshold or "")),
        _points(row.auc),
        _points(row.auc_difference, sign=True),
        _points(row.gap, sign=True),
        _points(row.gap_difference, sign=True),
        _points(row.rise, sign=True),
        "" if row.images_seen is None else f"{row.images_seen:,.0f}",
    ]


def fit_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headings, the threshold named, and rows of the second table; nothing where no cell was finished."""
    x = comparison.threshold
    named = [f"epochs to {100 * float(x):.0f} %" if x is not None and name == "epochs to" else name for name in FIT]
    headings, rows = filled(named, [fit_cells(row, x) for row in comparison.rows])
    return (headings, rows) if len(headings) > 1 else ([], [])


def fit_caption(comparison: Comparison) -> str:
    """What the words of the second table mean."""
    seen = comparison.watched
    return f"AUC: mean {seen} accuracy over epochs · gap: clean train less {seen} · rise: in the last tenth of epochs"


def filled(headings: Sequence[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows without the columns that say nothing."""
    kept = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    return [headings[i] for i in kept], [[row[i] for i in kept] for row in rows]


def as_markdown(comparison: Comparison) -> str:
    first = _table(HEADINGS, [cells(row) for row in comparison.rows], NUMBERS)
    headings, rows = fit_table(comparison)
    second = [[fit_caption(comparison)], _table(headings, rows, headings[1:])] if rows else []
    parts = (_listed(comparison.header()), first, *second, _listed(comparison.footer()), _listed(comparison.made))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line a variant, every field of `Row` unrounded, ahead of it what names the comparison."""
    out = io.StringIO()
    names = {name: getattr(comparison, name) for name in ("ablation", "scale", "protocol", "metric", "control", "data")}
    rows = [{**names, **dict(_columns(row.as_dict()))} for row in comparison.rows]
    every = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(out, fieldnames=list(every), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _columns(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is nested in columns of its own, `epochs_to_0.7_mean`; behind all others, for they are many."""
    for key, value in tree.items():
        if not isinstance(value, dict):
            yield key, json.dumps(value) if isinstance(value, tuple) else value
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _columns({f"{key}_{inner}": each for inner, each in value.items()})


def _table(headings: Sequence[str], rows: list[list[str]], right: Sequence[str]) -> list[str]:
    rule = "|".join("---:" if heading in right else "---" for heading in headings)
    return [f"| {' | '.join(headings)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def _listed(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _epochs(found: Reached | None) -> str:
    """`4.5`, `4.5 (2 of 3)` where a cell never got there, `never` where none did."""
    if found is None or not found.of:
        return ""
    return "never" if found.mean is None else f"{found.mean:.1f}{_part(found)}"


def _fewer(found: Reached | None) -> str:
    """`-1.5`, `-1.5 (2 of 3)` where the others have no difference."""
    return "" if found is None or found.mean is None else f"{found.mean:+.1f}{_part(found)}"


def _part(found: Reached) -> str:
    return "" if found.reached == found.of else f" ({found.reached} of {found.of})"


def _points(value: float | None, *, sign: bool = False) -> str:
    return "" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"

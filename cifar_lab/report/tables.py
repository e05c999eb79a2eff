"""The comparison of an ablation's variants, and the forms it is printed in. All forms come from the same numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

HEADINGS = (
    "variant", "n", "accuracy %", "± std", "Δ", "± std", "verdict", "parameters", "MACs", "time", "note",
)  # fmt: skip
NUMBERS = ("n", "accuracy %", "± std", "Δ", "parameters", "MACs", "time")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant. Accuracies and differences are fractions; `interval`, `p_value` and `verdict` are not known yet."""

    variant: str
    against: str | None
    """The variant that it is compared with; none for the control."""
    n: int
    mean: float | None
    std: float | None
    difference: float | None
    difference_std: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    verdict: str | None
    pairs: int
    missing: int
    running: int
    failed: int
    diverged: int
    mixed_execution: bool
    parameters: int
    parameters_trained: int
    macs: int
    seconds: float | None
    """Mean training time of a cell."""
    images_seen: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows of one ablation at one scale, and where they come from."""

    ablation: str
    scale: str
    protocol: str
    metric: str
    control: str
    data: str
    overrides: dict[str, Any]
    invocation: str
    """The latest, which chose the setting."""
    invocations: int
    rows: tuple[Row, ...]
    chain: bool = False
    """Each row is compared with a row of its own, the stage before."""
    others: tuple[str, ...] = ()
    """Other settings that match what was asked for."""
    made: tuple[str, ...] = ()
    """How the numbers came about: command, hardware, versions, hours, date; one a line."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def header(self) -> list[str]:
        """What must be known before a number is read."""
        setting = " ".join(f"{path}={value}" for path, value in self.overrides.items())
        lines = [f"{self.ablation} · scale {self.scale} · {self.data}" + (f" · {setting}" if setting else "")]
        metric = "accuracy on test, of the last weights, looked at once"
        if self.metric == "test/peak_acc":
            metric = "peak accuracy on test over the epochs: selected on test"
        against = "the stage before" if self.chain else self.control
        lines.append(f"{metric} · Δ against {against}, paired by seed")
        more = f", the latest of {self.invocations} in this setting" if self.invocations > 1 else ""
        lines.append(f"invocation {self.invocation}{more}")
        return lines

    def footer(self) -> list[str]:
        """What must be known before a number is believed."""
        lines = []
        if any(row.mixed_execution for row in self.rows):
            lines.append(
                "* this row, or this row and the control, mix executions (device, threads, precision, compile)"
            )
        if any(row.parameters != row.parameters_trained for row in self.rows):
            lines.append("parameters: as declared, which the budget judges; the scale trained smaller networks")
        if min((row.n for row in self.rows), default=0) < 5:
            lines.append("fewer than five seeds: read differences with care; `noise_floor` shows how much chance moves")
        return lines + [f"also there: {other}" for other in self.others]


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


def as_markdown(comparison: Comparison) -> str:
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'|'.join('---:' if h in NUMBERS else '---' for h in HEADINGS)}|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in comparison.rows]
    parts = (_listed(comparison.header()), lines, _listed(comparison.footer()), _listed(comparison.made))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line a variant, every field of `Row` unrounded, ahead of it what names the comparison."""
    out = io.StringIO()
    names = {name: getattr(comparison, name) for name in ("ablation", "scale", "protocol", "metric", "control", "data")}
    rows = [{**names, **asdict(row)} for row in comparison.rows]
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _listed(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _points(value: float | None, *, sign: bool = False) -> str:
    return "" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"

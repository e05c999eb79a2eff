"""The comparison of an ablation's variants, and the forms it is printed in. All forms come from the same numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from cifar_lab.stats.convergence import Reached, still_rises

HEADINGS = (
    "variant", "n", "accuracy %", "± std", "Δ", "± std", "verdict", "parameters", "MACs", "time", "note",
)  # fmt: skip
NUMBERS = ("n", "accuracy %", "± std", "Δ", "parameters", "MACs", "time")
FIT = ("variant", "epochs to", "AUC %", "Δ AUC", "gap", "Δ gap", "last tenth", "images seen")


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
    gap: float | None = None
    """Mean over cells of the accuracy on clean training images less that on the watched ones: how far it overfits."""
    gap_difference: float | None = None
    """Mean of the differences by seed, as `difference` is."""
    auc: float | None = None
    """Mean of the watched accuracy over all epochs: the area under its curve over a length of one."""
    auc_difference: float | None = None
    epochs_to: dict[str, Reached] = field(default_factory=dict)
    """By threshold: the first epoch that reached it."""
    rises: tuple[float, ...] = ()
    """Of each cell: how much the last tenth of its epochs still brought."""


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

    @property
    def threshold(self) -> str | None:
        """The one that `epochs to` is shown for: the highest that all cells of the control reached, else any cell."""
        first = next((row for row in self.rows if row.variant == self.control), None)
        of_control = first.epochs_to if first is not None else {}
        whole = [x for x, found in of_control.items() if found.of and found.reached == found.of]
        some = [x for row in self.rows for x, found in row.epochs_to.items() if found.reached]
        return max(whole or some, key=float, default=None)

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
        if rising := [row for row in self.rows if still_rises(row.rises)]:
            words = ", ".join(f"{row.variant} {100 * sum(row.rises) / len(row.rises):+.1f}" for row in rising)
            lines.append(
                f"still rising, by points in the last tenth of the epochs: {words}; longer may change the order"
            )
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


def fit_headings(comparison: Comparison) -> list[str]:
    """`FIT`, with the threshold named."""
    x = comparison.threshold
    return [f"epochs to {100 * float(x):.0f} %" if name == "epochs to" and x is not None else name for name in FIT]


def fit_cells(row: Row, threshold: str | None) -> list[str]:
    """The row's cells under `FIT`: speed of convergence, and generalisation."""
    return [
        row.variant,
        _epochs(row.epochs_to.get(threshold)) if threshold is not None else "",
        _points(row.auc),
        _points(row.auc_difference, sign=True),
        _points(row.gap, sign=True),
        _points(row.gap_difference, sign=True),
        _points(sum(row.rises) / len(row.rises), sign=True) if row.rises else "",
        "" if row.images_seen is None else f"{row.images_seen:,.0f}",
    ]


def _epochs(found: Reached | None) -> str:
    if found is None or not found.of:
        return ""
    if found.mean is None:
        return "never"
    return f"{found.mean:.1f}" + ("" if found.reached == found.of else f" ({found.reached} of {found.of})")


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
    fit, rows = fit_headings(comparison), [fit_cells(row, comparison.threshold) for row in comparison.rows]
    more = [f"| {' | '.join(fit)} |", f"|---|{'---:|' * (len(fit) - 1)}"] + [f"| {' | '.join(row)} |" for row in rows]
    if not any(any(row[1:]) for row in rows):
        more = []
    parts = (_listed(comparison.header()), lines, more, _listed(comparison.footer()), _listed(comparison.made))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line a variant, every field of `Row` unrounded, ahead of it what names the comparison."""
    out = io.StringIO()
    names = {name: getattr(comparison, name) for name in ("ablation", "scale", "protocol", "metric", "control", "data")}
    rows = [{**names, **_flat(row)} for row in comparison.rows]
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    tree = asdict(row)
    return {key: json.dumps(value) if isinstance(value, dict | tuple) else value for key, value in tree.items()}


def _listed(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _points(value: float | None, *, sign: bool = False) -> str:
    return "" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"

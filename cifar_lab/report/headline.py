"""Summary of a comparison in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cifar_lab.config.overrides import format_overrides
from cifar_lab.report.ablation_page_data import AblationPageData, ClaimSummary
from cifar_lab.report.charts.comparison_plots import of
from cifar_lab.report.table_content import is_interaction, points, span, without_metric
from cifar_lab.results.comparison import UNFINISHED, Comparison, ComparisonRow
from cifar_lab.results.stats.claims import STATUSES
from cifar_lab.text import many

PARTLY = " where it trains"
"""Suffix of a verdict over the seeds in which the variant did not diverge."""
WORDS = ("better", f"better{PARTLY}", "worse", f"worse{PARTLY}", "equivalent", f"equivalent{PARTLY}", "undecided",
         "diverged", "not compared")  # fmt: skip
"""Possible outcomes of a row, in order of mention."""
MOST = 3
"""Maximum number of names or numbers of one kind in a sentence."""


def headline(comparison: Comparison) -> str:
    """Return `Of 4 variants against r16: 1 worse (none, -0.80 [-1.20, -0.40] points), 3 undecided; 5 seeds, …`.

    For a 2 × 2 study the interaction comes first.
    """
    rows = _compared(comparison)
    if not rows:
        return f"{_accuracies(comparison)}; {setting(comparison)}."
    what = f"{many(len(rows), 'stage')}, each against the one before" if comparison.chain else (
        f"{many(len(rows), 'variant')} against {comparison.control}"
    )  # fmt: skip
    kinds = [f"{len(found)} {kind}{_details(kind, found)}" for kind, found in _kinds(rows).items()]
    return f"{interaction(comparison)}Of {what}: {', '.join(kinds)}; {setting(comparison)}."


def interaction(comparison: Comparison) -> str:
    """`Interaction of a and b: absent (within ± 0.50), +0.10 [-0.20, +0.40] points. `; nothing without one."""
    effect = next((each for each in comparison.effects if is_interaction(each)), None)
    if effect is None:
        return ""
    word = effect.verdict or "undecided"
    why = f"within ± {points(comparison.margin)}" if word == "absent" else effect.reason or ""
    numbers = f", {points(effect.difference, sign=True)} {span(effect.interval)}".rstrip() + " points"
    said = word + (f" ({why})" if why else "") + (numbers if effect.difference is not None else "")
    return f"Interaction of {effect.name.replace(' × ', ' and ')}: {said}. "


def brief(comparison: Comparison) -> list[tuple[str, str]]:
    """Return pairs (verdict, names of its rows) for a table."""
    rows = _compared(comparison)
    if not rows:
        return [("", _accuracies(comparison))]
    lead = [(f"interaction {each.verdict or 'undecided'}", "") for each in comparison.effects
            if is_interaction(each)]  # fmt: skip
    return lead + [(kind, ", ".join(_named(row, " (", ")") for row in found)) for kind, found in _kinds(rows).items()]


def setting(comparison: Comparison) -> str:
    """Return `5 seeds, scale small/5, CIFAR-10`."""
    rows = _compared(comparison) or list(comparison.rows)
    seeds = [row.pairs if row.against is not None else row.n for row in rows]
    seeds = [n for n, row in zip(seeds, rows, strict=True) if n or row.verdict != "diverged"] or [0]
    low, high = min(seeds), max(seeds)
    shown = many(high, "seed") if low == high else f"{low} to {high} seeds"
    return ", ".join(
        filter(None, [shown, f"scale {comparison.scale}", comparison.data, format_overrides(comparison.overrides)])
    )


def unfinished(comparison: Comparison) -> str:
    """Return `Of 25 cells, 2 missing, 1 failed.`; empty if every cell is finished."""
    counts = Counter[str]()
    for row in comparison.rows:
        counts.update({state: getattr(row, state) for state in UNFINISHED})
        counts[f"finished without {comparison.metric}"] += without_metric(row)
    said = [f"{n} {state}" for state, n in counts.items() if n]
    total = sum(row.n for row in comparison.rows) + counts.total()
    return f"Of {total} cells, {', '.join(said)}." if said else ""


def claims(findings: Iterable[ClaimSummary]) -> str:
    """Return `2 claims: 1 supported, 1 not measured`; empty without claims."""
    found = statuses(findings)
    said = ", ".join(counted(n, status) for status, n in found)
    return f"{many(sum(n for _, n in found), 'claim')}: {said}" if found else ""


def statuses(findings: Iterable[ClaimSummary]) -> list[tuple[str, int]]:
    """Return the number of claims by status, the most informative first."""
    found = Counter[str](finding.status for finding in findings)
    return [(status, found[status]) for status in dict.fromkeys([*STATUSES, *found]) if found[status]]


def counted(n: int, status: str) -> str:
    """Return `2 supported`; `1 direction agrees`, `3 directions agree`."""
    noun, _, verb = status.partition(" ")
    return f"{n} {noun}s {verb.removesuffix('s')}" if noun == "direction" and n != 1 else f"{n} {status}"


def noise(study: AblationPageData) -> str:
    """Describe the variation of the control over seeds."""
    comparison = study.comparison
    row = next((row for row in comparison.rows if row.variant == comparison.control), None)
    if row is None or row.std is None:
        return "One seed, or none, of the control: how far chance alone moves it is not known."
    values = sorted(row.values.values())
    return (
        f"With nothing but the seed changed, {row.variant} moves by ± {points(row.std)} points (deviation over "
        f"{row.n} seeds; from {points(values[0])} to {points(values[-1])} %)."
    )


def _compared(comparison: Comparison) -> list[ComparisonRow]:
    return [row for row in comparison.rows if row.against is not None]


def _kinds(rows: Sequence[ComparisonRow]) -> dict[str, list[ComparisonRow]]:
    found: dict[str, list[ComparisonRow]] = {kind: [] for kind in WORDS}
    for row in rows:
        found[_kind(row)].append(row)
    return {kind: own for kind, own in found.items() if own}


def _kind(row: ComparisonRow) -> str:
    kind = row.verdict or "not compared"
    return f"{kind}{PARTLY}" if row.diverged and f"{kind}{PARTLY}" in WORDS else kind


def _named(row: ComparisonRow, before: str = ", ", after: str = "") -> str:
    """Return a variant's name, with the cells that its verdict excludes: `k3313, 2 of 5 diverged`."""
    lost = f"{before}{row.diverged} of {of(row)} diverged{after}"
    return f"{row.variant}{lost}" if _kind(row).endswith(PARTLY) else row.variant


def _details(kind: str, rows: Sequence[ComparisonRow]) -> str:
    """Return numbers of decided rows, names of equivalent ones, and a common reason of undecided ones."""
    if kind.removesuffix(PARTLY) in {"better", "worse"}:
        rows = sorted(rows, key=lambda row: -abs(row.difference or 0.0))
        said = [f"{_named(row)}, {points(row.difference, sign=True)} {span(row.interval)}" for row in rows[:MOST]]
        return f" ({'; '.join(said)} points{_more(rows)})"
    if kind in {"undecided", "not compared"}:
        reasons = {row.reason for row in rows}
        return f" ({reason})" if len(reasons) == 1 and (reason := reasons.pop()) else ""
    return f" ({', '.join(map(_named, rows[:MOST]))}{_more(rows)})"


def _more(rows: Sequence[ComparisonRow]) -> str:
    return f" and {len(rows) - MOST} more" if len(rows) > MOST else ""


def _accuracies(comparison: Comparison) -> str:
    """Return the accuracies of rows that are compared with nothing."""
    said = [
        f"{row.variant}: {points(row.mean)} %" + (f" ± {points(row.std)}" if row.std is not None else "")
        for row in comparison.rows
        if row.mean is not None
    ]
    return ", ".join(said) or "No cell is finished"

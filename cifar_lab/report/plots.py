"""The plots of a comparison: differences and accuracies with every seed drawn, and accuracy against its cost."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median_low

from markupsafe import Markup

from cifar_lab.report import svg
from cifar_lab.report.comparison import UNFINISHED, Comparison, Row
from cifar_lab.report.sheets import is_interaction, note, points, without_metric
from cifar_lab.report.strips import Strip, held, strips
from cifar_lab.report.svg import Scale

PANEL = 190.0
"""Height of a panel of costs."""
OUTLIER = 6
"""How many times farther out than the typical variant the farthest must be to earn the others a close-up."""
ALIKE = 0.02
"""Costs that differ by less are not drawn."""
COSTS = (
    ("parameters_trained", 1e6, "parameters, millions"),
    ("macs", 1e6, "multiply-accumulates an image, millions"),
    ("seconds", 1.0, "seconds of training a cell"),
)


def differences(comparison: Comparison, limit: float | None = None) -> Markup | None:
    """Each row's differences by seed, their mean and its interval; None where nothing is compared.

    limit: a close-up of the differences up to it.
    """
    found = [_of_difference(row, comparison.metric) for row in comparison.rows if row.against is not None]
    if not found:
        return None
    against = "the stage before" if comparison.chain else comparison.control
    title = f"difference in accuracy to {against}, points"
    return strips(found, title=title, margin=comparison.margin, limit=limit)


def closeup(comparison: Comparison) -> float | None:
    """The limit of a close-up, where a few rows are so far out that nothing is seen of the others; else None."""
    rows = [row for row in comparison.rows if row.against is not None and row.differences]
    found = [_of_difference(row, comparison.metric) for row in rows]
    if not found:
        return None
    most = OUTLIER * max(median_low([strip.reach for strip in found]), comparison.margin)
    near = [strip for strip in found if strip.reach <= most]
    if not near or len(near) == len(found):
        return None
    return 1.1 * max(map(abs, held(near, comparison.margin)))


def effects(comparison: Comparison) -> Markup | None:
    """The two main effects and the interaction of a 2 × 2 study."""
    found = [
        Strip(
            name=effect.name,
            label="interaction" if is_interaction(effect) else effect.name.partition(".")[2] or effect.name,
            verdict=effect.verdict or "",
            mean=effect.difference,
            interval=effect.interval,
            words="" if effect.difference is not None else effect.reason or "",
        )
        for effect in comparison.effects
    ]
    return strips(found, title="effect on accuracy, points", margin=comparison.margin) if found else None


def accuracies(comparison: Comparison) -> Markup | None:
    """Each row's accuracies by seed, their mean and its own interval."""
    found = [
        Strip(
            name=row.variant,
            mean=row.mean,
            interval=row.mean_interval,
            dots=row.values,
            words="" if row.mean is not None else ended(row, comparison.metric),
        )
        for row in comparison.rows
    ]
    return strips(found, title="accuracy on test, %") if any(strip.values for strip in found) else None


def indices(comparison: Comparison) -> dict[str, int]:
    """By variant, what colours and shapes it where each has its own: the control first."""
    names = [row.variant for row in comparison.rows]
    ordered = sorted(names, key=lambda name: name != comparison.control)
    return {name: i for i, name in enumerate(ordered)}


def ended(row: Row, metric: str = "test/acc") -> str:
    """What became of a row without a mean: `diverged in 3 of 3`, else what its note says."""
    return f"diverged in {row.diverged} of {of(row)}" if row.verdict == "diverged" else note(row, metric)


def of(row: Row) -> int:
    """Cells that were asked for."""
    unfinished: int = sum(getattr(row, state) for state in UNFINISHED)
    return row.n + unfinished + without_metric(row)


def _of_difference(row: Row, metric: str) -> Strip:
    nothing = "" if row.difference is not None else ended(row, metric) if row.n == 0 else row.reason or ""
    return Strip(
        name=row.variant,
        verdict=row.verdict or "",
        mean=row.difference,
        interval=row.interval,
        dots=row.differences,
        words=nothing,
    )


# Cost


def costs(comparison: Comparison) -> list[Markup]:
    """Accuracy against parameters, MACs and seconds: a panel for each in which the rows differ."""
    if all(row.mean is None for row in comparison.rows):
        return []
    return [_cost(comparison, *cost) for cost in COSTS if _apart(comparison, cost[0])]


def alike(comparison: Comparison) -> list[str]:
    """The costs in which the rows hardly differ, in words: a plot would make much of it."""
    said = []
    for name, _, title in COSTS:
        found = _costs(comparison, name)
        if len(found) > 1 and not _apart(comparison, name):
            low, high = f"{min(found):,.0f}", f"{max(found):,.0f}"
            said.append(f"{title.partition(',')[0]}: {low if low == high else f'{low} to {high}'}")
    return said


def _costs(comparison: Comparison, name: str) -> list[float]:
    return [value for row in comparison.rows if (value := getattr(row, name)) is not None]


def _apart(comparison: Comparison, name: str) -> bool:
    found = _costs(comparison, name)
    return bool(found) and max(found) > (1 + ALIKE) * min(found)


def _cost(comparison: Comparison, name: str, unit: float, title: str) -> Markup:
    x = svg.linear([value / unit for value in _costs(comparison, name)], count=4, room=0.09)
    ends = [end for row in comparison.rows for end in (*(row.mean_interval or ()), row.mean) if end is not None]
    y = svg.linear([100 * end for end in ends], room=0.1)
    parts, index = [svg.x_axis(x, PANEL, title), svg.y_axis(y, PANEL, "accuracy on test, %")], indices(comparison)
    for row in comparison.rows:
        value = getattr(row, name)
        if value is not None:
            said = f"{value:,.0f} {title.partition(',')[0]}"
            parts += _costing(row, index[row.variant], x.x(value / unit), y, said)
    return svg.drawing(*parts, height=PANEL, words=f"accuracy on test against {title}", left=svg.room(y))


def _costing(row: Row, index: int, x: str, y: Scale, cost: str) -> Iterator[Markup]:
    if row.mean is None:
        if row.diverged:
            yield svg.cross(x, PANEL, f"{row.variant}: {ended(row)}, {cost}", svg.style(index))
        return
    said = f"{row.variant}: {points(row.mean)} %, {cost}"
    if row.mean_interval is not None:
        low, high = (y.y(100 * end, PANEL) for end in row.mean_interval)
        yield svg.post(x, low, high, said, svg.style(index))
    yield svg.mark(x, y.y(100 * row.mean, PANEL), said, index=index)

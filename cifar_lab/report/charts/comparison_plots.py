"""Plots of a comparison: differences and accuracies with one dot per seed, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median_low

from markupsafe import Markup

from cifar_lab.report.charts import svg
from cifar_lab.report.charts.forest_plot import ForestRow, held, strips
from cifar_lab.report.charts.svg import AxisScale
from cifar_lab.report.table_content import is_interaction, note, points, without_metric
from cifar_lab.results.comparison import UNFINISHED, Comparison, ComparisonRow

PANEL = 190.0
"""Height of a cost panel in pixels."""
OUTLIER = 6
"""Ratio of the farthest to the typical variant's distance from which on the others get a close-up."""
ALIKE = 0.02
"""Relative difference below which costs are not drawn."""
COSTS = (
    ("parameters_trained", 1e6, "parameters, millions"),
    ("macs", 1e6, "multiply-accumulates an image, millions"),
    ("seconds", 1.0, "seconds of training a cell"),
)


def differences(comparison: Comparison, limit: float | None = None) -> Markup | None:
    """Plot the differences of each row by seed, with mean and interval; None without comparisons.

    `limit`: close-up of the differences up to this size.
    """
    found = [_of_difference(row, comparison.metric) for row in comparison.rows if row.against is not None]
    if not found:
        return None
    against = "the stage before" if comparison.chain else comparison.control
    title = f"difference in accuracy to {against}, points"
    return strips(found, title=title, margin=comparison.margin, limit=limit)


def closeup(comparison: Comparison) -> float | None:
    """Return the limit of a close-up, if a few outlying rows compress the others; else None."""
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
    """Plot the two main effects and the interaction of a 2 × 2 study."""
    found = [
        ForestRow(
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
    """Plot the accuracies of each row by seed, with mean and interval."""
    found = [
        ForestRow(
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
    """Return the index of each variant, which determines its colour and shape, starting with the control."""
    names = [row.variant for row in comparison.rows]
    ordered = sorted(names, key=lambda name: name != comparison.control)
    return {name: i for i, name in enumerate(ordered)}


def ended(row: ComparisonRow, metric: str = "test/acc") -> str:
    """Describe a row without a mean: `diverged in 3 of 3`, else its note."""
    return f"diverged in {row.diverged} of {of(row)}" if row.verdict == "diverged" else note(row, metric)


def of(row: ComparisonRow) -> int:
    """Return the number of requested cells."""
    unfinished: int = sum(getattr(row, state) for state in UNFINISHED)
    return row.n + unfinished + without_metric(row)


def _of_difference(row: ComparisonRow, metric: str) -> ForestRow:
    nothing = "" if row.difference is not None else ended(row, metric) if row.n == 0 else row.reason or ""
    return ForestRow(
        name=row.variant,
        verdict=row.verdict or "",
        mean=row.difference,
        interval=row.interval,
        dots=row.differences,
        words=nothing,
    )


# Cost


def costs(comparison: Comparison) -> list[Markup]:
    """Plot accuracy against parameters, MACs and seconds: one panel for each that differs between rows."""
    if all(row.mean is None for row in comparison.rows):
        return []
    return [_cost(comparison, *cost) for cost in COSTS if _apart(comparison, cost[0])]


def alike(comparison: Comparison) -> list[str]:
    """Name the costs that hardly differ between rows, for which a plot would exaggerate."""
    said = []
    for name, _, title in COSTS:
        found = _costs(comparison, name)
        if len(found) > 1 and not _apart(comparison, name):
            low, high = f"{min(found):,.0f}", f"{max(found):,.0f}"
            said.append(f"{title.partition(',')[0]}: {low if low == high else f'{low} to {high}'}")
    return said


def _costs(comparison: Comparison, name: str) -> list[float]:
    return [value for row in comparison.rows if (value := getattr(row, name))]  # 0 MACs are unknown


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


def _costing(row: ComparisonRow, index: int, x: str, y: AxisScale, cost: str) -> Iterator[Markup]:
    if row.mean is None:
        if row.diverged:
            yield svg.cross(x, PANEL, f"{row.variant}: {ended(row)}, {cost}", svg.style(index))
        return
    said = f"{row.variant}: {points(row.mean)} %, {cost}"
    if row.mean_interval is not None:
        low, high = (y.y(100 * end, PANEL) for end in row.mean_interval)
        yield svg.post(x, low, high, said, svg.style(index))
    yield svg.mark(x, y.y(100 * row.mean, PANEL), said, index=index)

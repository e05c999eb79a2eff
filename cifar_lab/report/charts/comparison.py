"""Plots of a comparison: the forest plot of differences or accuracies, effects, and accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cifar_lab.report.charts.figure import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PINK,
    SHADE,
    TEXT_SIZE,
    PageFigure,
    add_tips,
    as_svg,
    clipped,
    colour_of,
    limits,
    marker_of,
    new_axes,
)
from cifar_lab.report.table_content import describe_end, is_interaction, points, span
from cifar_lab.results.comparison import Comparison, ComparisonRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

WIDTH, ROW = 640.0, 46.0
"""Width of a forest plot, and height of one of its rows, in pixels."""
NUMBERS = 150.0
"""Width of the column of numbers to the right of the axes, in pixels."""
NARROW = 400.0
"""Width in pixels below which a forest plot has no column of numbers."""
SMALLEST = 0.6
"""Smallest scale of text and marks: 6.6 points."""
ABOVE = 0.34
"""Distance of a row's text from its mean, as a share of the row."""
MARKS = {
    "better": ("^", BLUE), "worse": ("v", ORANGE), "equivalent": ("s", GREEN), "absent": ("s", GREEN),
    "present": ("D", INK), "diverged": ("x", PINK),
}  # fmt: skip
"""Marker and colour of a mean by verdict; a thin diamond otherwise."""
WIDEST = 1.0
"""Largest possible difference between two accuracies."""
ARROWS = "An arrow in place of an end: the interval reaches farther; its numbers are in the table."
ALIKE = 0.02
"""Relative difference below which costs are not drawn."""
COSTS = (
    ("parameters_trained", 1e6, "parameters, millions"),
    ("macs", 1e6, "multiply-accumulates an image, millions"),
    ("seconds", 1.0, "seconds of training a cell"),
)


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot; values are fractions."""

    name: str
    verdict: str = ""
    mean: float | None = None
    interval: tuple[float, float] | None = None
    dots: Mapping[int, float] = field(default_factory=dict)
    """Value by seed."""
    words: str = ""
    """Text instead of marks, if there is nothing to draw."""

    @property
    def values(self) -> list[float]:
        """Measured values: dots and mean."""
        return [*self.dots.values(), *([self.mean] if self.mean is not None else [])]

    def numbers(self, *, signed: bool) -> str:
        """Return `-0.80 [-1.20, -0.40]`, without signs for accuracies: `91.23 [91.01, 91.45]`."""
        interval = span(self.interval)
        return f"{points(self.mean, sign=signed)} {interval if signed else interval.replace('+', '')}".strip()


def forest_axis(rows: Sequence[ForestRow], margin: float | None = None) -> tuple[float, float]:
    """Return the limits of the axis: it includes dots, means, the margin around zero, and ends of intervals.

    An interval's end is left out if its distance from these values exceeds their range: the interval of two seeds may
    be a hundred times as wide as the differences, and would compress them. Without dots, the distance is limited by the
    largest possible difference of two accuracies.
    """
    values = [value for row in rows for value in row.values]
    values += [0.0, -1.3 * margin, 1.3 * margin] if margin is not None else []
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = high - low if any(row.dots for row in rows) else WIDEST
    ends = [end for row in rows for end in row.interval or () if low - room <= end <= high + room]
    return limits([*values, *ends])


def draw_forest(
    rows: Sequence[ForestRow], *, axis: str, margin: float | None = None, title: str = "",
    size: tuple[float, float] | None = None, is_fitted: bool = False,
) -> Figure:  # fmt: skip
    """Draw one line per row: dots of the seeds, above them the mean with its interval; the margin is shaded.

    Args:
        rows: lines from top to bottom.
        axis: title of the x axis.
        margin: margin around zero, as a fraction; None for accuracies, which are not differences.
        title: title of the figure.
        size: width and height in pixels; text and marks are smaller in a small one. None: as the rows need it.
        is_fitted: find the margins anew whenever the size of the figure changes.
    """
    usual = (WIDTH, 46 + ROW * len(rows) + (20 if title else 0))
    width, height = size or usual
    scale = max(SMALLEST, min(1.0, math.sqrt(width / usual[0]), height / usual[1]))
    figure, axes = new_axes(
        width, height, title=title, x=axis, left=12, right=12 + NUMBERS, scale=scale, is_fitted=is_fitted
    )
    axes.set_ylim(len(rows) - 0.45, -0.55)
    low, high = (100 * end for end in forest_axis(rows, margin))
    axes.set_xlim(low, high)
    axes.set_yticks([place - ABOVE for place in range(len(rows))], [clipped(row.name) for row in rows])
    axes.tick_params(axis="y", length=0, pad=0)
    axes.grid(visible=False, axis="y")
    names = axes.get_yticklabels()
    if margin is not None:
        shade = axes.axvspan(-100 * margin, 100 * margin, color=SHADE, linewidth=0, zorder=0)
        add_tips(shade, f"± {points(margin)} points: a difference that does not matter")
        axes.axvline(0, color=INK, linewidth=1)
    for place, row in enumerate(rows):
        names[place].set(horizontalalignment="left", fontweight="bold", fontsize=scale * TEXT_SIZE, color=INK)
        add_tips(names[place], row.name)
        _draw_row(axes, place, row, names[place], signed=margin is not None, scale=scale, is_narrow=width < NARROW)
    return figure


def _draw_row(
    axes: Axes, place: int, row: ForestRow, name: Text, *, signed: bool, scale: float, is_narrow: bool
) -> None:
    """Draw the marks and words of a row; in a narrow figure its numbers stand above the marks, not beside the axes."""
    marker, colour = MARKS.get(row.verdict, ("d", INK))
    numbers, by_row = row.numbers(signed=signed), axes.get_yaxis_transform()
    axes.annotate(row.verdict, (1, 0.5), (8, 0), xycoords=name, textcoords="offset points", va="center", color=colour,
                  size=scale * TEXT_SIZE)  # fmt: skip
    text, shade = (numbers, INK) if numbers else (clipped(row.words, 70), FAINT)
    axes.annotate(text, (1, place - ABOVE), (0 if is_narrow else scale * NUMBERS, 0), xycoords=by_row,
                  textcoords="offset points", ha="right", va="center", size=scale * TEXT_SIZE, color=shade)  # fmt: skip
    if row.verdict == "diverged" and not row.values:
        add_tips(axes.plot([0.01], [place], "x", color=colour, transform=by_row), f"{row.name}: {row.words}")
    if row.interval is not None:
        _draw_interval(axes, place, row, colour, f"{row.name}: {numbers}")
    if row.mean is not None and len(row.dots) != 1:  # the mean of one seed is its value
        mark = axes.plot([100 * row.mean], [place], marker, color=colour, markersize=scale * 8, markeredgecolor=PAPER)
        add_tips(mark, f"{row.name}: {numbers}")
    if row.dots:
        values = [100 * value for value in row.dots.values()]
        dots = axes.plot(values, [place + 0.25] * len(values), "o", markerfacecolor=PAPER, markeredgecolor=FAINT,
                         markersize=scale * 5.5)  # fmt: skip
        tips = [f"{row.name}, seed {seed}: {points(value, sign=signed)}" for seed, value in row.dots.items()]
        add_tips(dots, *tips)


def _draw_interval(axes: Axes, place: int, row: ForestRow, colour: str, words: str) -> None:
    """Draw an interval with end marks; an end beyond the axis becomes an arrow."""
    assert row.interval is not None, "a row with an interval"
    low, high = axes.get_xlim()
    left, right = (100 * end for end in row.interval)
    drawn = [max(low, left), min(high, right)]
    add_tips(axes.plot(drawn, [place, place], color=colour, linewidth=2), words)
    ends = zip(drawn, ("<" if left < low else "|", ">" if right > high else "|"), strict=True)
    for at, marker in ends:
        axes.plot([at], [place], marker, color=colour, markersize=8, clip_on=False)


def plot_forest(title: str, caption: str, rows: Sequence[ForestRow], axis: str, margin: float | None) -> PageFigure:
    """Return a forest plot for a page, with a note in its caption if an interval is cut off by the axis."""
    low, high = forest_axis(rows, margin)
    is_cut = any(row.interval[0] < low or row.interval[1] > high for row in rows if row.interval is not None)
    described = [
        f"{row.name} {row.numbers(signed=margin is not None) or row.words} {row.verdict}".rstrip() for row in rows
    ]
    drawing = as_svg(draw_forest(rows, axis=axis, margin=margin), f"{axis}: {'; '.join(described)}")
    return PageFigure(title, drawing, f"{caption} {ARROWS}".strip() if is_cut else caption)


def difference_rows(comparison: Comparison) -> list[ForestRow]:
    """Return the differences of each compared row by seed, with mean and interval."""
    return [
        ForestRow(
            name=row.variant,
            verdict=row.verdict or "",
            mean=row.difference,
            interval=row.interval,
            dots=row.differences,
            words=""
            if row.difference is not None
            else describe_end(row, comparison.metric) if row.n == 0 else row.reason or "",
        )
        for row in comparison.rows
        if row.against is not None
    ]  # fmt: skip


def accuracy_rows(comparison: Comparison) -> list[ForestRow]:
    """Return the accuracies of each row by seed, with mean and interval."""
    return [
        ForestRow(
            name=row.variant,
            mean=row.mean,
            interval=row.mean_interval,
            dots=row.values,
            words="" if row.mean is not None else describe_end(row, comparison.metric),
        )
        for row in comparison.rows
    ]


def effect_rows(comparison: Comparison) -> list[ForestRow]:
    """Return the two main effects and the interaction of a 2 × 2 study."""
    return [
        ForestRow(
            name=f"interaction: {effect.name}" if is_interaction(effect) else effect.name,
            verdict=effect.verdict or "",
            mean=effect.difference,
            interval=effect.interval,
            words="" if effect.difference is not None else effect.reason or "",
        )
        for effect in comparison.effects
    ]


def difference_axis(comparison: Comparison) -> str:
    """Return the title of the axis of differences."""
    return f"difference in accuracy to {'the stage before' if comparison.chain else comparison.control}, points"


def row_indices(comparison: Comparison) -> dict[str, int]:
    """Return the index of each variant, which determines its colour and marker, starting with the control."""
    names = [row.variant for row in comparison.rows]
    ordered = sorted(names, key=lambda name: name != comparison.control)
    return {name: i for i, name in enumerate(ordered)}


# Cost


def plot_row_costs(comparison: Comparison) -> list[PageFigure]:
    """Plot accuracy against parameters, MACs and seconds: one figure for each that differs between rows."""
    if all(row.mean is None for row in comparison.rows):
        return []
    return [_plot_cost(comparison, *cost) for cost in COSTS if _is_apart(comparison, cost[0])]


def similar_costs(comparison: Comparison) -> list[str]:
    """Name the costs that hardly differ between rows, for which a plot would exaggerate."""
    lines = []
    for name, _, title in COSTS:
        values = _costs_of(comparison, name)
        if len(values) > 1 and not _is_apart(comparison, name):
            low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
            lines.append(f"{title.partition(',')[0]}: {low if low == high else f'{low} to {high}'}")
    return lines


def _costs_of(comparison: Comparison, name: str) -> list[float]:
    return [value for row in comparison.rows if (value := getattr(row, name))]  # 0 MACs are unknown


def _is_apart(comparison: Comparison, name: str) -> bool:
    values = _costs_of(comparison, name)
    return bool(values) and max(values) > (1 + ALIKE) * min(values)


def _plot_cost(comparison: Comparison, name: str, unit: float, title: str) -> PageFigure:
    figure, axes = new_axes(320, 240, x=title, y="accuracy on test, %")
    axes.margins(0.09)
    words, indices = [], row_indices(comparison)
    for row in comparison.rows:
        if value := getattr(row, name):
            words.append(f"{_described_cost(row)}, {value:,.0f} {title.partition(',')[0]}")
            _draw_cost(axes, row, indices[row.variant], value / unit, words[-1])
    return PageFigure("", as_svg(figure, f"accuracy on test against {title}: {'; '.join(words)}"))


def _described_cost(row: ComparisonRow) -> str:
    return f"{row.variant}: {f'{points(row.mean)} %' if row.mean is not None else describe_end(row)}"


def _draw_cost(axes: Axes, row: ComparisonRow, index: int, cost: float, words: str) -> None:
    colour = colour_of(index)
    if row.mean is None:
        if row.diverged:
            at_bottom = axes.get_xaxis_transform()
            add_tips(axes.plot([cost], [0.03], "x", color=colour, transform=at_bottom), words)
        return
    if row.mean_interval is not None:
        axes.plot([cost, cost], [100 * end for end in row.mean_interval], color=colour, linewidth=1.8)
    mark = axes.plot([cost], [100 * row.mean], marker_of(index), color=colour, markeredgecolor=PAPER, markersize=8)
    add_tips(mark, words)

"""Plots of a search: history, accuracy against cost, slices by dimension, importances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median_low
from typing import TYPE_CHECKING

from cifar_lab.config.overrides import as_typed
from cifar_lab.report.charts.figure import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    PINK,
    SHADE,
    TEXT_SIZE,
    THEME,
    LegendEntry,
    PageFigure,
    add_tips,
    as_svg,
    clipped,
    limits,
    new_axes,
    set_ticks,
    whole_epochs,
)
from cifar_lab.report.importance_table import EVALUATORS
from cifar_lab.report.sweep_page import DimensionSummary, SweepPage, TrialSummary
from cifar_lab.report.table_content import points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTLIER = 4
"""Multiple of the typical trial's distance from the best beyond which a value is clipped."""
NEAR = 0.02
"""Distance from the best within which a value is never clipped."""
COSTS = (("parameters", "parameters as declared", "max_params"), ("macs", "multiply-accumulates an image", "max_macs"))
MILLION = 1e6
BEYOND = 2.5
"""Multiple of the budget at which the cost axis ends."""
WIDE = 4
"""Ratio of the largest to the smallest cost from which on their axis is logarithmic."""
LABEL_ROOM = 36
"""Characters for which the x axis of a slice has room, if all labels are as long as the longest."""
COLOURS = {"fanova": BLUE, "ped_anova": "#b97f00"}
STATES = {
    "trained": ("o", BLUE, "trial with a value"),
    "pruned": ("x", FAINT, "pruned, at its last reported value"),
    "diverged": ("X", PINK, "diverged"),
    "infeasible": ("|", FAINT, "infeasible: over the budget, not trained"),
    "failed": ("|", ORANGE, "failed"),
}
"""Marker, colour and legend of a trial by state; one that runs or was stopped is not drawn."""
GLYPHS = {"o": "●", "x": "×", "X": "✖", "|": "|"}


def accuracy_limits(page: SweepPage) -> tuple[float, float] | None:
    """Return the limits in percent; values far below the others are put at the low end. None without values."""
    values = [trial.accuracy for trial in page.results]
    every = values + [trial.last for trial in page.trials if trial.last is not None]
    if not every:
        return None
    best = max(values or every)
    lowest = best - max(NEAR, OUTLIER * (best - median_low(values or every)))
    return limits([100 * value for value in every if value >= lowest], 0.08)


# History


def plot_history(page: SweepPage) -> PageFigure | None:
    """Plot accuracy by trial with the best so far, and below them the trials without a value; None without an axis."""
    ends = accuracy_limits(page)
    if ends is None:
        return None
    low, high = ends
    lane = low - 0.06 * (high - low)
    figure, axes = new_axes(640, 300, x="trial", y="accuracy on val, %")
    axes.set_ylim(lane - 0.04 * (high - low), high)
    whole_epochs(axes)
    if page.baseline is not None:
        baseline = 100 * page.baseline.accuracy
        add_tips(axes.axhline(baseline, color=FAINT, linewidth=1, linestyle=":"), f"baseline: {baseline:.2f} %")
    steps = best_so_far(page)
    if steps:
        last = page.trials[-1].number
        xs, ys = [number for number, _ in steps], [max(low, value) for _, value in steps]
        add_tips(axes.step([*xs, last], [*ys, ys[-1]], where="post", color=BLUE, linewidth=1.8), "best so far")
    drawn: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for trial in page.trials:
        reached = trial.last if trial.value is None else trial.value
        height = max(low, 100 * reached) if reached is not None else lane
        drawn[trial.state].append((trial.number, height, describe_trial(trial)))
    for state, (marker, colour, _) in STATES.items():
        _scatter(axes, drawn[state], marker, colour)
    values = [trial.last if trial.value is None else trial.value for trial in page.trials]
    below = sum(100 * value < low for value in values if value is not None)
    caption = f"{below} far below the others, drawn at the low end." if below else ""
    best = f"; best {points(page.best.value)} % in {page.best.name}" if page.best is not None else ""
    words = f"accuracy on val by trial: {len(page.results)} trials with a value{best}"
    return PageFigure("", as_svg(figure, words), caption)


def history_legend(page: SweepPage) -> list[LegendEntry]:
    """Return the legend of the marks that occur in the history."""
    states = {trial.state for trial in page.trials}
    entries = [
        LegendEntry(GLYPHS[marker], THEME[colour], words)
        for state, (marker, colour, words) in STATES.items()
        if state in states
    ]
    return [*entries, LegendEntry("━", "s1", "best so far")] if page.results else entries


def best_so_far(page: SweepPage) -> list[tuple[int, float]]:
    """Return (trial, percent) of each trial that was better than all before it."""
    steps: list[tuple[int, float]] = []
    for trial in page.results:
        if not steps or 100 * trial.accuracy > steps[-1][1]:
            steps.append((trial.number, 100 * trial.accuracy))
    return steps


def describe_trial(trial: TrialSummary) -> str:
    """Return the tooltip of a trial: its value or how it ended, and its parameters."""
    parameters = "" if trial.parameters is None else f", {trial.parameters:,} parameters"
    if trial.value is not None:
        return f"{trial.name}: {points(trial.value)} %{parameters}"
    if trial.last is not None:
        return f"{trial.name}: pruned after epoch {trial.pruned_at} at {points(trial.last)} %"
    return f"{trial.name}: {trial.note or trial.state}{parameters}"


def _scatter(axes: Axes, marks: Sequence[tuple[float, float, str]], marker: str, colour: str, size: float = 6) -> None:
    """Draw marks without a line, each with its tooltip."""
    if marks:
        xs, ys, words = zip(*marks, strict=True)
        add_tips(axes.plot(xs, ys, marker, color=colour, markersize=size, alpha=0.85, clip_on=False), *words)


# Cost


def plot_trial_costs(page: SweepPage) -> list[PageFigure]:
    """Plot accuracy against parameters, and against MACs if these are limited or an objective."""
    heights = accuracy_limits(page)
    if heights is None or not page.results:
        return []
    named = [each for each in COSTS if each[0] == "parameters" or page.max_macs or "macs" in page.objectives]
    return [_plot_cost(page, heights, *each) for each in named]


def _plot_cost(page: SweepPage, heights: tuple[float, float], name: str, title: str, limited: str) -> PageFigure:
    limit: int | None = getattr(page, limited)
    costs = {trial.number: cost / MILLION for trial in page.trials if (cost := getattr(trial, name)) is not None}
    ends = [*costs.values(), *([limit / MILLION] if limit is not None else [])]
    low, high = min(ends), min(max(ends), BEYOND * limit / MILLION if limit is not None else max(ends))
    figure, axes = new_axes(640, 300, x=f"{title}, millions", y="accuracy on val, %")
    axes.set_ylim(heights)
    if high > WIDE * low > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.15, high * 1.1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda *_: "")
    else:
        axes.set_xlim(limits([low, high], 0.09))
    right = axes.get_xlim()[1]
    if limit is not None:
        words = f"budget {limit / MILLION:g} M"
        add_tips(axes.axvspan(limit / MILLION, right, color=SHADE, linewidth=0, zorder=0),
                 f"over the budget of {limit:,}")  # fmt: skip
        add_tips(axes.axvline(limit / MILLION, color=ORANGE, linewidth=1.4), words)
        axes.annotate(words, (limit / MILLION, heights[0]), (-4, 4), textcoords="offset points", ha="right",
                      color=ORANGE, size=TEXT_SIZE - 1)  # fmt: skip
    front = page.front(name)
    if front:
        xs = [costs[trial.number] for trial in front]
        ys = [max(heights[0], 100 * trial.accuracy) for trial in front]
        edge = max(xs[-1], min(right, limit / MILLION if limit is not None else right))
        add_tips(axes.step([*xs, edge], [*ys, ys[-1]], where="post", color=BLUE, linewidth=1.8), "front")
    measured = [trial for trial in page.results if trial.number in costs]
    for trials, filled in ((measured, False), (front, True)):
        marks = [
            (min(right, costs[trial.number]), max(heights[0], 100 * trial.accuracy), describe_trial(trial))
            for trial in trials
            if filled or trial not in front
        ]
        _scatter(axes, marks, "o", BLUE if filled else FAINT)
    infeasible = [trial for trial in page.trials if trial.state == "infeasible" and trial.number in costs]
    at_bottom = [(min(right, costs[trial.number]), heights[0], describe_trial(trial)) for trial in infeasible]
    _scatter(axes, at_bottom, "|", FAINT)
    beyond = sum(cost > right for cost in costs.values())
    caption = f"{beyond} infeasible beyond {right:.3g} million, drawn at the end of the axis." if beyond else ""
    points_of_front = "; ".join(
        f"{trial.name} {points(trial.value)} % with {getattr(trial, name):,}" for trial in front
    )
    return PageFigure("", as_svg(figure, f"accuracy on val against {title}; front: {points_of_front}"), caption)


def cost_legend(page: SweepPage) -> list[LegendEntry]:
    """Return the legend of the plots of accuracy against cost."""
    entries = [
        LegendEntry("●", "faint", "trial with a value"),
        LegendEntry("●", "s1", "front: no other beats it in both"),
    ]
    if any(trial.state == "infeasible" for trial in page.trials):
        entries.append(LegendEntry("|", "faint", "infeasible, not trained"))
    return entries


# Slices


def plot_slices(page: SweepPage) -> list[PageFigure]:
    """Plot accuracy against each dimension, the most important first: one panel per dimension."""
    heights = accuracy_limits(page)
    return [_plot_slice(page, dimension, heights) for dimension in page.ordered] if heights and page.results else []


def _plot_slice(page: SweepPage, dimension: DimensionSummary, heights: tuple[float, float]) -> PageFigure:
    labels = [as_typed(each) for each in dimension.labels]
    is_crowded = len(labels) * max(map(len, labels), default=0) > LABEL_ROOM
    figure, axes = new_axes(300, 200, y="accuracy on val, %", bottom=50 if is_crowded else None)
    axes.set_ylim(heights)
    if labels:
        axes.set_xlim(-0.5, len(labels) - 0.5)
        set_ticks(axes.xaxis, range(len(labels)), labels)
        if is_crowded:
            for text in axes.get_xticklabels():
                text.set(rotation=25, ha="right", rotation_mode="anchor")
    else:
        axes.set_xscale("log" if dimension.is_log else "linear")
        room = 1.1 if dimension.is_log else 1.0
        axes.set_xlim((dimension.low / room, dimension.high * room) if dimension.is_log
                      else limits([dimension.low, dimension.high]))  # fmt: skip
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda *_: "")
    best, top = page.best, {trial.number for trial in page.best_tenth}
    sampled = [trial for trial in page.results if dimension.name in trial.params]
    for colour, trials, size in (
        (FAINT, [trial for trial in sampled if trial.number not in top], 5),
        (BLUE, [trial for trial in sampled if trial.number in top and trial is not best], 6),
        (ORANGE, [trial for trial in sampled if trial is best], 8),
    ):
        _scatter(axes, list(_slice_marks(dimension, trials, heights[0])), "o", colour, size)
    unasked = len(page.results) - len(sampled)
    caption = f"Not asked for in {unasked} of {len(page.results)} trials." if unasked else ""
    words = f"accuracy on val against {dimension.name}: {len(sampled)} trials"
    if best is not None and dimension.name in best.params:
        words += f"; the best has {as_typed(best.params[dimension.name])}"
    return PageFigure(dimension.name, as_svg(figure, words), caption)


def _slice_marks(
    dimension: DimensionSummary, trials: Sequence[TrialSummary], low: float
) -> Iterator[tuple[float, float, str]]:
    for trial in trials:
        taken = trial.params[dimension.name]
        place = dimension.labels.index(taken) if dimension.labels else taken
        assert not isinstance(place, str), "a range holds numbers"
        yield place, max(low, 100 * trial.accuracy), f"{describe_trial(trial)}; {dimension.name} {as_typed(taken)}"


def slice_legend(page: SweepPage) -> list[LegendEntry]:
    """Return the legend of the slices."""
    top = len(page.best_tenth)
    tenth = [LegendEntry("●", "s1", f"the best tenth, {top} trials")] if top > 1 else []
    return [LegendEntry("●", "s2", "the best"), *tenth, LegendEntry("●", "faint", "the other trials with a value")]


# Importances


def plot_importances(page: SweepPage) -> PageFigure:
    """Plot a row per dimension: its importance by each evaluator, as a bar and a number."""
    by_evaluator = {name: shares for name, shares in page.importances.items() if shares}
    names = [each.name for each in page.ordered if any(each.name in shares for shares in by_evaluator.values())]
    left = 16 + 7.5 * max(len(clipped(name, 36)) for name in names)
    figure, axes = new_axes(640, 50 + 17 * len(names) * (1 + len(by_evaluator)), x="importance", left=left)
    thick = 0.8 / len(by_evaluator)
    for column, (evaluator, shares) in enumerate(by_evaluator.items()):
        label, colour = EVALUATORS.get(evaluator, evaluator), COLOURS.get(evaluator, INK)
        places = [row + thick * (column - (len(by_evaluator) - 1) / 2) for row in range(len(names))]
        bars = axes.barh(places, [shares.get(name, 0.0) for name in names], 0.9 * thick, color=colour, label=label)
        intervals = page.importance.intervals.get(evaluator, {})
        for bar, place, name in zip(bars, places, names, strict=True):
            share, (low, high) = shares.get(name, 0.0), intervals.get(name, (0.0, 0.0))
            held = f" [{low:.3f}, {high:.3f}]" if name in intervals else ""
            add_tips(bar, f"{name}, {evaluator}: {share:.3f}{held}")
            if name in intervals:
                axes.plot((low, high), (place, place), color=INK, linewidth=1.2)
            number = f"{share:.3f}" if name in shares else "–"
            axes.annotate(number, (max(share, high), place), (4, 0), textcoords="offset points", va="center",
                          fontsize=TEXT_SIZE - 1, color=INK)  # fmt: skip
    axes.set_yticks(range(len(names)), [clipped(name, 36) for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.legend(loc="lower right", frameon=False, fontsize=TEXT_SIZE - 1, labelcolor=INK)
    words = "; ".join(
        f"{evaluator} {name} {share:.3f}" for evaluator, own in by_evaluator.items() for name, share in own.items()
    )
    return PageFigure("", as_svg(figure, f"importances: {words}"), _explain_importances(page, names))


def _explain_importances(page: SweepPage, names: Sequence[str]) -> str:
    caption = (
        "fANOVA: share of the variance over the whole space. PED-ANOVA: what tells the best tenth from the rest. They "
        "answer two questions, and may rank differently."
    )
    if page.importance.intervals:
        caption += " Lines: 95 % of resamples of the trials."
    if any(name not in shares for shares in page.importances.values() if shares for name in names):
        caption += " –: not every trial was asked for it."
    missing = [each.name for each in page.ordered if each.name not in names]
    return caption + (f" Not every trial was asked for: {', '.join(missing)}." if missing else "")

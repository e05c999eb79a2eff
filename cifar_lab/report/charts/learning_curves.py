"""Learning curves with a band over seeds, and the writeup's four figures, of a page and of one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import TYPE_CHECKING

from cifar_lab.report.charts.comparison import row_indices
from cifar_lab.report.charts.figure import (
    FAINT,
    INK,
    ORANGE,
    PAPER,
    PageFigure,
    add_tips,
    as_svg,
    clipped,
    colour_of,
    dashes_of,
    limits,
    marker_of,
    new_axes,
    whole_epochs,
)
from cifar_lab.report.table_content import points
from cifar_lab.results.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[int, float]]
"""(epoch from 1, value), in order of epoch."""
Curves = Mapping[str, Mapping[str, Mapping[int, Curve]]]
"""Curves of ended cells, by variant, metric (`lr`, `val/acc`, …) and seed."""
INTERVAL = 10
"""Epochs that the third figure averages over."""
SPLITS = {"val": "validation", "test": "test"}
SIZE = (440.0, 270.0)
FEW = 30
"""Maximum number of epochs for which each has its own mark."""
APART = 20
"""Use a log axis when the largest peak learning rate is at least this many times the smallest."""


@dataclass(frozen=True, kw_only=True)
class CurveBand:
    """Mean, minimum and maximum of a variant's curves, by epoch."""

    name: str
    index: int
    """Index of its row, which determines its colour and marker."""
    curves: Mapping[int, Curve]
    """Curves of the finished cells, by seed."""

    @property
    def by_epoch(self) -> dict[int, list[float]]:
        """Values of all seeds at the epochs that every seed has."""
        every = [dict(curve) for curve in self.curves.values()]
        epochs = sorted(set(every[0]).intersection(*every[1:])) if every else []
        return {epoch: [curve[epoch] for curve in every] for epoch in epochs}

    @property
    def mean(self) -> list[tuple[int, float]]:
        return [(epoch, fmean(values)) for epoch, values in self.by_epoch.items()]

    @property
    def seeds(self) -> str:
        return f"{len(self.curves)} seeds" if len(self.curves) > 1 else "one seed"


def select_curves(curves: Curves, variant: str, metric: str) -> Mapping[int, Curve]:
    """Return curves by seed. `watched/acc` and `watched/loss` belong to the images evaluated in every epoch."""
    own = curves.get(variant, {})
    splits = ("test", "val") if metric.startswith("watched/") and "test/acc" in own else ("val", "test")
    names = [metric.replace("watched", split) for split in splits]
    return next((own[name] for name in names if own.get(name)), {})


def finished_bands(comparison: Comparison, curves: Curves, metric: str) -> list[CurveBand]:
    """Return the curves of finished cells in the order of the rows, without variants that have none."""
    indices = row_indices(comparison)
    bands = []
    for row in comparison.rows:
        own = select_curves(curves, row.variant, metric).items()
        kept = {seed: curve for seed, curve in own if seed in row.values}
        bands.append(CurveBand(name=row.variant, index=indices[row.variant], curves=kept))
    return [band for band in bands if band.by_epoch]


def watched_split(comparison: Comparison) -> str:
    """Return the split that is evaluated in every epoch: `validation`, `test`, or both."""
    return SPLITS.get(comparison.watched, comparison.watched)


def epoch_intervals(values: Curve, length: int = INTERVAL) -> list[tuple[int, int, float]]:
    """Return (first epoch, last epoch, mean) of each interval of `length` epochs; the last may be shorter."""
    groups: dict[int, list[tuple[int, float]]] = {}
    for epoch, value in values:
        groups.setdefault((epoch - 1) // length, []).append((epoch, value))
    return [(group[0][0], group[-1][0], fmean(value for _, value in group)) for group in groups.values()]


# Learning curves


def plot_learning_curves(comparison: Comparison, curves: Curves) -> list[PageFigure]:
    """Return one panel per variant, all with the same axes, with the control's mean behind it."""
    bands = {band.name: band for band in finished_bands(comparison, curves, "watched/acc")}
    lost = {
        row.variant: {
            seed: curve
            for seed, curve in select_curves(curves, row.variant, "watched/acc").items()
            if seed not in row.values and curve
        }
        for row in comparison.rows
    }
    every = [curve for band in bands.values() for curve in band.curves.values()]
    every += [curve for own in lost.values() for curve in own.values()]
    if not any(every):
        return []
    heights = limits([100 * value for curve in every for _, value in curve])
    last = max(epoch for curve in every for epoch, _ in curve)
    control, panels = bands.get(comparison.control), []
    for row in comparison.rows:
        figure, axes = new_axes(230, 150)
        axes.set_xlim((0.5, 1.5) if last == 1 else (1, last + 0.03 * last))
        axes.set_ylim(heights)
        whole_epochs(axes)
        if control is not None and row.variant != comparison.control:
            _draw_mean(axes, control, FAINT, width=1.0)
        words = _draw_panel(axes, row.variant, bands.get(row.variant), lost[row.variant])
        described = f"{watched_split(comparison)} accuracy by epoch, {row.variant}: {words}"
        panels.append(PageFigure(row.variant, as_svg(figure, described), words))
    return panels


def _draw_panel(axes: Axes, name: str, band: CurveBand | None, lost: Mapping[int, Curve]) -> str:
    """Draw band and mean of the finished cells and the curves of diverged ones; return a description."""
    ended = f", {len(lost)} diverged" if lost else ""
    for seed, curve in lost.items():
        xs, ys = [epoch for epoch, _ in curve], [100 * value for _, value in curve]
        axes.plot(xs, ys, ":", color=ORANGE, linewidth=1)
        add_tips(axes.plot(xs[-1:], ys[-1:], "x", color=ORANGE, clip_on=False), f"{name}, seed {seed}: diverged")
    if band is None:
        return f"no cell finished{ended}"
    colour, by_epoch = colour_of(band.index), band.by_epoch
    if len(by_epoch) == 1:
        _draw_single_epoch(axes, band, colour)
    elif len(band.curves) > 1:
        low, high = ([100 * end(values) for values in by_epoch.values()] for end in (min, max))
        area = axes.fill_between(list(by_epoch), low, high, color=colour, alpha=0.2, linewidth=0)
        add_tips(area, f"{name}: lowest to highest of {band.seeds}")
    if len(by_epoch) > 1:
        _draw_mean(axes, band, colour, width=1.8)
    epoch, last = band.mean[-1]
    mark = axes.plot([epoch], [100 * last], marker_of(band.index), color=colour, markersize=6, clip_on=False)
    add_tips(mark, f"{name}: {points(last)} %")
    return f"{points(last)} % after epoch {epoch}, {band.seeds}{ended}"


def _draw_single_epoch(axes: Axes, band: CurveBand, colour: str) -> None:
    """Draw the seeds of a single epoch side by side, to the right of their mean and range."""
    values = {seed: 100 * value for seed, curve in band.curves.items() for _, value in curve[-1:]}
    axes.plot([1, 1], [min(values.values()), max(values.values())], color=colour, linewidth=1.8)
    places = [1.1 + 0.3 * place / len(values) for place in range(len(values))]
    dots = axes.plot(places, list(values.values()), "o", markerfacecolor=PAPER, markeredgecolor=FAINT, markersize=5)
    add_tips(dots, *(f"{band.name}, seed {seed}: {value:.2f} %" for seed, value in values.items()))


def _draw_mean(axes: Axes, band: CurveBand, colour: str, width: float) -> None:
    words, values = f"{band.name}: mean of {band.seeds}", [100 * value for _, value in band.mean]
    if len(values) == 1:
        add_tips(axes.axhline(values[0], color=colour, linewidth=width), words)
    else:
        add_tips(axes.plot([epoch for epoch, _ in band.mean], values, color=colour, linewidth=width), words)


def describe_panels(comparison: Comparison, curves: Curves) -> str:
    """Return the sentence on how to read the panels."""
    bands = finished_bands(comparison, curves, "watched/acc")
    single = bool(bands) and all(len(band.by_epoch) == 1 for band in bands)
    what = f"{watched_split(comparison).capitalize()} accuracy, %, " + ("after one epoch" if single else "by epoch")
    spread = "with a bar from the lowest to the highest" if single else "in a band from the lowest to the highest"
    words = f"{what}: the mean over finished seeds {spread}"
    if single and any(len(band.curves) > 1 for band in bands):
        words += "; small dots beside it, one seed each"
    if len(comparison.rows) > 1:
        words += f"; thin grey, {comparison.control}"
    return f"{words}; × where a cell diverged."


# The writeup's four figures


def plot_four_figures(comparison: Comparison, curves: Curves) -> list[PageFigure]:
    """Return the writeup's four figures with one line per variant; empty without curves.

    The losses on mixed training images and on clean images are drawn separately.
    """
    rates, accuracies, losses, clean = (
        finished_bands(comparison, curves, metric) for metric in ("lr", "watched/acc", "train/loss", "watched/loss")
    )
    split, length = watched_split(comparison), interval_length(accuracies)
    means = f"mean of {length} epochs" if length > 1 else "epoch by epoch"
    short = "" if length > 1 else f"Fewer than {INTERVAL} epochs were trained: there are no means of {INTERVAL}."
    heading, axis = split.capitalize(), f"{split} accuracy, %"
    seen = "As trained on: augmented and mixed images."
    drawn = (
        ("1 · Learning rate by epoch", draw_learning_rate(rates), rates, ""),
        (f"2 · {heading} accuracy by epoch", draw_accuracy(accuracies, axis), accuracies, ""),
        (f"3 · {heading} accuracy, {means}", draw_interval_accuracy(accuracies, axis), accuracies, short),
        ("4a · Training loss by epoch", draw_loss(losses, "training loss, nats"), losses, seen),
        (f"4b · {heading} loss by epoch", draw_loss(clean, f"{split} loss, nats"), clean, ""),
    )
    return [
        PageFigure(title, as_svg(figure, _described(title, bands)), caption)
        for title, figure, bands, caption in drawn
        if figure is not None
    ]


def _described(title: str, bands: Sequence[CurveBand]) -> str:
    ends = [f"{band.name} {band.mean[-1][1]:.4g} after epoch {band.mean[-1][0]}" for band in bands]
    return f"{title}: {'; '.join(ends)}"


def draw_learning_rate(bands: Sequence[CurveBand], title: str = "") -> Figure | None:
    """Draw figure 1, the learning rate by epoch; None if there is no positive one."""
    peaks = [max(value for _, value in band.mean) for band in bands]
    if not peaks or max(peaks) <= 0:
        return None
    is_log = max(peaks) > APART * min(peaks)
    figure, axes = new_axes(*SIZE, title=title, x="epoch", y=f"learning rate{', logarithmic' if is_log else ''}")
    for band in bands:
        _draw_line(axes, band, band.mean)
    if is_log:
        top = max(peaks)
        lowest = min((value for band in bands for _, value in band.mean if value > 0), default=top)
        axes.set_yscale("log")
        axes.set_ylim(max(lowest, top * 1e-5) / 1.5, top * 1.5)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda *_: "")
    else:
        axes.set_ylim(bottom=0)
    return figure


def draw_accuracy(bands: Sequence[CurveBand], axis: str, title: str = "") -> Figure | None:
    """Draw figure 2, the accuracy in percent by epoch; the best epoch is marked if there is a single line."""
    if not bands:
        return None
    figure, axes = new_axes(*SIZE, title=title, x="epoch", y=axis)
    for band in bands:
        _draw_line(axes, band, [(epoch, 100 * value) for epoch, value in band.mean])
    if len(bands) == 1:
        epoch, best = max(bands[0].mean, key=lambda point: point[1])
        label = f"best: {100 * best:.2f} % in epoch {epoch}"
        add_tips(axes.plot([epoch], [100 * best], "*", color=ORANGE, markersize=13, label=label), label)
        axes.legend(loc="lower right", frameon=False, labelcolor=INK)
    return figure


def interval_length(bands: Sequence[CurveBand]) -> int:
    """Return the number of epochs that figure 3 averages over: one if fewer than ten were trained."""
    return INTERVAL if max((band.mean[-1][0] for band in bands), default=0) >= INTERVAL else 1


def draw_interval_accuracy(bands: Sequence[CurveBand], axis: str, title: str = "") -> Figure | None:
    """Draw figure 3, the accuracy in percent as means over ten epochs; single epochs if fewer were trained."""
    if not bands:
        return None
    length = interval_length(bands)
    means = f"mean of {length} epochs" if length > 1 else "intervals of one epoch: fewer than ten were trained"
    figure, axes = new_axes(*SIZE, title=title, x=f"epoch ({means})", y=axis)
    whole_epochs(axes)
    for band in bands:
        steps = [(first, last, 100 * mean) for first, last, mean in epoch_intervals(band.mean, length)]
        xs = [end for first, last, _ in steps for end in (first - 0.5, last + 0.5)]
        colour = colour_of(band.index)
        axes.plot(xs, [mean for _, _, mean in steps for _ in range(2)], color=colour, linewidth=1.8)
        mark = axes.plot([(first + last) / 2 for first, last, _ in steps], [mean for _, _, mean in steps],
                         marker_of(band.index), color=colour, markersize=5)  # fmt: skip
        add_tips(mark, *(f"{band.name}, epochs {first} to {last}: {mean:.2f} %" for first, last, mean in steps))
        if len(bands) == 1 and len(steps) <= 12:
            for first, last, mean in steps:
                place = ((first + last) / 2, mean)
                axes.annotate(
                    f"{mean:.1f}", place, (0, 6), textcoords="offset points", ha="center", fontsize=9, color=INK
                )
    return figure


def draw_loss(bands: Sequence[CurveBand], axis: str, title: str = "", *, has_legend: bool = False) -> Figure | None:
    """Draw figure 4, the loss in nats by epoch, without a few outliers that would flatten the other values."""
    if not bands:
        return None
    figure, axes = new_axes(*SIZE, title=title, x="epoch", y=axis)
    for band in bands:
        _draw_line(axes, band, band.mean)
    values = [value for band in bands for _, value in band.mean]
    usual = quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
    axes.set_ylim(0, 1.05 * (max(values) if max(values) <= 4 * usual else 2 * usual) or 1)
    if has_legend:
        axes.legend(loc="upper right", frameon=False, labelcolor=INK)
    return figure


def _draw_line(axes: Axes, band: CurveBand, values: Sequence[tuple[int, float]]) -> None:
    """Draw the mean over seeds with a mark at the last epoch, or at each of a few."""
    whole_epochs(axes)
    xs, ys = [epoch for epoch, _ in values], [value for _, value in values]
    colour = colour_of(band.index)
    line = axes.plot(xs, ys, dashes_of(band.index), color=colour, linewidth=1.8)
    add_tips(line, f"{band.name}: mean of {band.seeds}")
    shown = values if len(values) <= FEW else values[-1:]
    mark = axes.plot([epoch for epoch, _ in shown], [value for _, value in shown], marker_of(band.index),
                     color=colour, markersize=5, label=clipped(band.name))  # fmt: skip
    add_tips(mark, *(f"{band.name}, epoch {epoch}: {value:.4g}" for epoch, value in shown))

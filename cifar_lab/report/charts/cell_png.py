"""PNG figures of one cell: the writeup's four figures, and the confusion matrix."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from cifar_lab.store.confusion import parse_confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[int, float]]
"""(epoch from 1, value), in order of epoch."""
Points = Sequence[tuple[int, dict[str, float]]]
"""(epoch from 1, its metrics), in order of epoch."""

INTERVAL = 10
"""Epochs that the third figure averages over."""
SIZE, SQUARE, DPI = (8.0, 4.8), (7.6, 6.6), 100
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
"""Colours of Okabe and Ito (2008), distinct for all types of colour vision; line styles and markers differ too."""
NAMES = {"val": "validation", "test": "test"}


def draw_cell_figures(points: Points, confusion: str | None, name: str) -> dict[str, bytes]:
    """Draw every figure that the data of a cell allow, by path: `figures/loss.png`, …, `confusion.png`.

    `confusion` is the text of `confusion.csv` (a header of classes, one row of counts per label); `name` is part of
    the titles.
    """
    watched = "test" if any("test/acc" in values for _, values in points) else "val"
    accuracy = curve(points, f"{watched}/acc")
    losses = {split: curve(points, f"{split}/loss") for split in ("train", watched)}
    figures = {}
    if rates := curve(points, "lr"):
        figures["figures/learning_rate.png"] = learning_rate(rates, name)
    if accuracy:
        figures["figures/accuracy.png"] = accuracy_by_epoch(accuracy, watched, name)
        figures["figures/accuracy_by_interval.png"] = accuracy_by_interval(accuracy, watched, name)
    if any(losses.values()):
        figures["figures/loss.png"] = loss(losses, name)
    if confusion:
        figures["confusion.png"] = confusion_matrix(confusion, name)
    return figures


def curve(points: Points, metric: str) -> list[tuple[int, float]]:
    """Return one metric at the epochs that have it."""
    return [(epoch, values[metric]) for epoch, values in points if metric in values]


def intervals(values: Curve, length: int = INTERVAL) -> list[tuple[int, int, float]]:
    """Return (first epoch, last epoch, mean) of each interval of `length` epochs; the last may be shorter."""
    groups: dict[int, list[tuple[int, float]]] = {}
    for epoch, value in values:
        groups.setdefault((epoch - 1) // length, []).append((epoch, value))
    return [(group[0][0], group[-1][0], sum(value for _, value in group) / len(group)) for group in groups.values()]


def learning_rate(rates: Curve, name: str) -> bytes:
    """Draw figure 1: the learning rate of each epoch."""
    figure, axes = _axes(f"Learning rate · {name}", "learning rate")
    _line(axes, rates, BLUE, "-", "o")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=True)
    axes.set_ylim(bottom=0, top=1.08 * max(rate for _, rate in rates) or 1)
    return as_png(figure)


def accuracy_by_epoch(accuracy: Curve, split: str, name: str) -> bytes:
    """Draw figure 2: the accuracy on `split` after each epoch, with the best epoch marked."""
    figure, axes = _axes(f"{NAMES[split].capitalize()} accuracy · {name}", f"{NAMES[split]} accuracy (%)")
    percent = [(epoch, 100 * value) for epoch, value in accuracy]
    _line(axes, percent, BLUE, "-", "o")
    epoch, best = max(percent, key=lambda point: point[1])
    axes.plot([epoch], [best], "*", color=ORANGE, markersize=15, label=f"best: {best:.2f} % in epoch {epoch}")
    axes.legend(loc="lower right")
    return as_png(figure)


def accuracy_by_interval(accuracy: Curve, split: str, name: str) -> bytes:
    """Draw figure 3: the mean accuracy on `split` over intervals of ten epochs (of one, in a shorter training)."""
    length = INTERVAL if len(accuracy) >= INTERVAL else 1
    means = [(first, last, 100 * mean) for first, last, mean in intervals(accuracy, length)]
    what = f"mean of {length} epochs" if length > 1 else "intervals of one epoch: fewer than ten were trained"
    figure, axes = _axes(f"{NAMES[split].capitalize()} accuracy by interval · {name}", f"{NAMES[split]} accuracy (%)")
    axes.set_xlabel(f"epoch ({what})")
    for first, last, mean in means:
        axes.hlines(mean, first - 0.5, last + 0.5, color=BLUE, linewidth=3)
    for (_, end, before), (_, _, after) in pairwise(means):
        axes.vlines(end + 0.5, min(before, after), max(before, after), color=BLUE, linewidth=0.8, linestyle=":")
    if len(means) <= 12:
        for first, last, mean in means:
            at = ((first + last) / 2, mean)
            axes.annotate(f"{mean:.1f}", at, (0, 5), textcoords="offset points", ha="center")
    axes.margins(y=0.12)
    return as_png(figure)


def loss(losses: Mapping[str, Curve], name: str) -> bytes:
    """Draw figure 4: the training loss and the loss on the watched split, after each epoch."""
    figure, axes = _axes(f"Loss · {name}", "cross-entropy loss (nats)")
    styles = ((BLUE, "-", "o"), (ORANGE, "--", "s"))
    for (split, values), (colour, line, marker) in zip(losses.items(), styles, strict=False):
        _line(axes, values, colour, line, marker, NAMES.get(split, "training"))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")
    return as_png(figure)


def confusion_matrix(text: str, name: str) -> bytes:
    """Draw counts by label (rows) and prediction (columns), shaded by the share of the label's images."""
    from matplotlib.figure import Figure

    classes, counts = parse_confusion(text)
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    figure = Figure(figsize=SQUARE, dpi=DPI)
    figure.subplots_adjust(left=0.14, right=1.0, bottom=0.15, top=0.93)
    axes = figure.add_subplot()
    shading = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"Confusion on the test images · {name}")
    for row, (values, of_label) in enumerate(zip(counts, shares, strict=True)):
        for column, (count, share) in enumerate(zip(values, of_label, strict=True)):
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=9,
                color="black" if share > 0.5 else "white",
            )
    figure.colorbar(shading, label="share of the true class", shrink=0.85)
    return as_png(figure)


def _axes(title: str, label: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no window, any thread
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=SIZE, dpi=DPI)
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.13, top=0.91)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.title.set_fontsize(14)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_fontsize(12)
    axes.tick_params(labelsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(axes: Axes, values: Curve, colour: str, line: str, marker: str, label: str | None = None) -> None:
    epochs, heights = [epoch for epoch, _ in values], [value for _, value in values]
    shown = marker if len(values) <= 30 else None  # with more values, markers would hide the line
    axes.plot(epochs, heights, line, color=colour, marker=shown, markersize=5, linewidth=2, label=label)


def as_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()

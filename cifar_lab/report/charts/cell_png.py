"""PNG figures of one cell: the writeup's four figures, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

from cifar_lab.report.charts import learning_curves
from cifar_lab.report.charts.figure import DPI, as_png, without_math
from cifar_lab.report.charts.learning_curves import SPLITS, CurveBand
from cifar_lab.store.confusion import parse_confusion

Points = Sequence[tuple[int, dict[str, float]]]
"""(epoch from 1, its metrics), in order of epoch."""


def draw_cell_figures(points: Points, confusion: str | None, name: str) -> dict[str, bytes]:
    """Draw every figure that the data of a cell allow, by path: `figures/loss.png`, …, `confusion.png`.

    `confusion` is the text of `confusion.csv` (a header of classes, one row of counts per label); `name` is part of
    the titles.
    """
    split = "test" if any("test/acc" in values for _, values in points) else "val"
    rate, accuracy = ([band] if (band := _band(points, metric, "", 1)) else [] for metric in ("lr", f"{split}/acc"))
    losses = [_band(points, "train/loss", "training", 1), _band(points, f"{split}/loss", SPLITS[split], 2)]
    heading, axis = f"{SPLITS[split].capitalize()} accuracy", f"{SPLITS[split]} accuracy (%)"
    drawn = {
        "learning_rate": learning_curves.draw_learning_rate(rate, f"Learning rate · {name}"),
        "accuracy": learning_curves.draw_accuracy(accuracy, axis, f"{heading} · {name}"),
        "accuracy_by_interval": learning_curves.draw_interval_accuracy(
            accuracy, axis, f"{heading} by interval · {name}"
        ),
        "loss": learning_curves.draw_loss(
            [band for band in losses if band], "cross-entropy loss (nats)", f"Loss · {name}", has_legend=True
        ),
    }
    figures = {f"figures/{path}.png": as_png(figure) for path, figure in drawn.items() if figure is not None}
    return figures | ({"confusion.png": draw_confusion(confusion, name)} if confusion else {})


def _band(points: Points, metric: str, name: str, index: int) -> CurveBand | None:
    """Return one metric at the epochs that have it; None without any."""
    curve = [(epoch, values[metric]) for epoch, values in points if metric in values]
    return CurveBand(name=name, index=index, curves={0: curve}) if curve else None


def draw_confusion(text: str, name: str) -> bytes:
    """Draw counts by label (rows) and prediction (columns), shaded by the share of the label's images."""
    from matplotlib.figure import Figure

    classes, counts = parse_confusion(text)
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    figure = Figure(figsize=(7.6, 6.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    shading = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    labels = [without_math(each) for each in classes]
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(
        xlabel="predicted class", ylabel="true class", title=without_math(f"Confusion on the test images · {name}")
    )
    for row, values in enumerate(counts):
        for column, count in enumerate(values):
            colour = "black" if shares[row][column] > 0.5 else "white"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(shading, label="share of the true class", shrink=0.85)
    return as_png(figure)

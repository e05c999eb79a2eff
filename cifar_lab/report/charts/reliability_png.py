"""PNG figure of the calibration of networks: accuracy by confidence, and the number of images by confidence."""

from __future__ import annotations

from collections.abc import Mapping

from cifar_lab.report.charts.figure import BLUE, DPI, GREEN, ORANGE, as_png, without_math
from cifar_lab.results.stats.calibration import Calibration

SIZE = (6.4, 6.8)
STYLES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"), ("#CC79A7", ":", "D"), ("#56B4E9", "-", "v"))
"""Colour, line and marker of each network; colours of Okabe and Ito (2008)."""
MOST = len(STYLES)
"""Maximum number of networks in one figure."""


def reliability_diagram(calibrations: Mapping[str, Calibration], title: str) -> bytes:
    """Draw a reliability diagram as PNG: a curve for each network by name, and a histogram of confidence below.

    Raises:
        ValueError: there are more than `MOST` networks, which could not be told apart.
    """
    if not 0 < len(calibrations) <= MOST:
        raise ValueError(f"{len(calibrations)} networks; 1 to {MOST} are drawn")
    from matplotlib.figure import Figure  # without pyplot: no global state, no window, any thread

    figure = Figure(figsize=SIZE, dpi=DPI)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1], "hspace": 0.08})
    upper.plot([0, 100], [0, 100], color="0.5", linewidth=1, label="calibrated")
    for (name, calibration), (colour, line, marker) in zip(calibrations.items(), STYLES, strict=False):
        points = [
            (100 * each.confidence, 100 * each.accuracy)
            for each in calibration.bins
            if each.confidence is not None and each.accuracy is not None
        ]
        label = f"{without_math(name)}: ECE {100 * calibration.error:.1f} %"
        upper.plot(
            *zip(*points, strict=True), line, color=colour, marker=marker, markersize=5, linewidth=2, label=label
        )
        total = sum(each.images for each in calibration.bins)
        edges = [100 * each.low for each in calibration.bins] + [100.0]
        lower.stairs([100 * each.images / total for each in calibration.bins], edges, color=colour, linestyle=line)
    upper.set(title=without_math(title), ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 100))
    upper.legend(loc="upper left", fontsize=9)
    lower.set(xlabel="confidence (%)", ylabel="images (%)")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.subplots_adjust(left=0.12, right=0.96, bottom=0.09, top=0.94)
    return as_png(figure)

"""Learning curves with a band over seeds, and the writeup's four figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from markupsafe import Markup

from cifar_lab.report.ablation_page_data import AblationPageData, Curve
from cifar_lab.report.charts import svg
from cifar_lab.report.charts.cell_png import INTERVAL, NAMES, intervals
from cifar_lab.report.charts.comparison_plots import indices
from cifar_lab.report.charts.svg import AxisScale
from cifar_lab.report.table_content import points

HEIGHT = 220.0
PANEL = 110.0
FEW = 12
"""Maximum number of epochs for which each has its own mark."""
NEAR = 11.0
"""Distance in pixels below which two marks overlap."""
APART = 20
"""Use a log axis when the largest peak learning rate is at least this many times the smallest."""


@dataclass(frozen=True, kw_only=True)
class CurveBand:
    """Mean, minimum and maximum of a variant's finished cells, by epoch."""

    index: int
    """Index of its row, which determines its colour."""
    seeds: int
    mean: list[tuple[int, float]]
    low: list[tuple[int, float]]
    high: list[tuple[int, float]]
    last: dict[int, float]
    """Value by seed in the last of these epochs."""

    @property
    def is_point(self) -> bool:
        """True if there is only a single epoch, and so no line or band."""
        return len(self.mean) == 1


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Learning curves of one variant, with the control's behind them."""

    name: str
    words: str
    drawing: Markup


def middle(curves: Mapping[int, Curve], index: int = 0) -> CurveBand:
    """Return mean, minimum and maximum over the seeds, at the epochs that all of them have."""
    found = [dict(curve) for curve in curves.values()]
    epochs = sorted(set(found[0]).intersection(*found[1:])) if found else []
    by_epoch = {epoch: [curve[epoch] for curve in found] for epoch in epochs}
    return CurveBand(
        index=index,
        seeds=len(found),
        mean=[(epoch, fmean(values)) for epoch, values in by_epoch.items()],
        low=[(epoch, min(values)) for epoch, values in by_epoch.items()],
        high=[(epoch, max(values)) for epoch, values in by_epoch.items()],
        last={seed: dict(curve)[epochs[-1]] for seed, curve in curves.items()} if epochs else {},
    )


def finished(study: AblationPageData, metric: str) -> dict[str, CurveBand]:
    """Return the curves by variant, in the order of the rows, without variants that have no finished cell."""
    found = {}
    index = indices(study.comparison)
    for row in study.comparison.rows:
        curves = {seed: curve for seed, curve in study.curve(row.variant, metric).items() if seed in row.values}
        if (made := middle(curves, index[row.variant])).mean:
            found[row.variant] = made
    return found


def diverged(study: AblationPageData, metric: str) -> dict[str, dict[int, Curve]]:
    """Return the curves of diverged cells, by variant and seed, up to the divergence."""
    found = {}
    for row in study.comparison.rows:
        curves = study.curve(row.variant, metric).items()
        found[row.variant] = {seed: curve for seed, curve in curves if seed not in row.values and curve}
    return found


def watched(study: AblationPageData) -> str:
    """Return the split that is evaluated in every epoch: `validation`, `test`, or both."""
    return NAMES.get(study.comparison.watched, study.comparison.watched)


# Learning curves


def panels(study: AblationPageData) -> list[Panel]:
    """Return one panel per variant, all with the same axes."""
    known, lost = finished(study, "watched/acc"), diverged(study, "watched/acc")
    every: list[Curve] = [curve for made in known.values() for curve in (made.low, made.high)]
    every += [curve for curves in lost.values() for curve in curves.values()]
    if not any(every):
        return []
    x, y = _epochs(every), svg.linear([100 * value for curve in every for _, value in curve], count=4)
    control = known.get(study.comparison.control)
    return [
        _panel(study, row.variant, known.get(row.variant), lost[row.variant], control, (x, y))
        for row in study.comparison.rows
    ]


def _panel(
    study: AblationPageData, name: str, own: CurveBand | None, lost: Mapping[int, Curve], control: CurveBand | None,
    axes: tuple[AxisScale, AxisScale],
) -> Panel:  # fmt: skip
    (x, y), index = axes, indices(study.comparison)[name]
    style = svg.style(index)
    parts, marks, words = [], [], f"no cell finished{_lost(lost)}"
    if control is not None and name != study.comparison.control:
        said = f"{study.comparison.control}: mean of {_seeds(control)}"
        parts.append(svg.line(_level(control, x), x, y, PANEL, said, "control"))
    if own is not None:
        if own.seeds > 1:
            said = f"{name}: lowest to highest of {_seeds(own)}"
            marks += _whisker(name, own, x, y, said, style) if own.is_point else []
            parts += [] if own.is_point else [svg.band(_percent(own.low), _percent(own.high), x, y, PANEL, said, style)]
        said = f"{name}: mean of {_seeds(own)}"
        parts.append(svg.line(_percent(own.mean), x, y, PANEL, said, f"solid {style}"))
        epoch, last = own.mean[-1]
        marks.append(svg.mark(x.x(epoch), y.y(100 * last, PANEL), f"{name}: {points(last)} %", index=index))
        words = f"{points(last)} % after epoch {epoch}, {_seeds(own)}{_lost(lost)}"
    for seed, curve in lost.items():
        said, (epoch, last) = f"{name}, seed {seed}: diverged", curve[-1]
        parts.append(svg.line(_percent(curve), x, y, PANEL, said, f"lost {style}"))
        marks.append(svg.cross(x.x(epoch), y.y(100 * last, PANEL), said, style))
    axis = Markup("").join([svg.x_axis(x, PANEL, ""), svg.y_axis(y, PANEL, "")])
    said = f"{watched(study)} accuracy by epoch, {name}: {words}"
    inside, left = (axis, svg.lines(PANEL, *parts), *marks), svg.room(y)
    whole = svg.drawing(*inside, height=PANEL, words=said, class_="small", left=left)
    return Panel(name=name, words=words, drawing=whole)


def _level(made: CurveBand, x: AxisScale) -> list[tuple[float, float]]:
    """Return the mean as a line; for a single epoch a full-width line, visible behind the marks of another variant."""
    if made.is_point:
        return [(x.low, 100 * made.mean[0][1]), (x.high, 100 * made.mean[0][1])]
    return [(float(epoch), value) for epoch, value in _percent(made.mean)]


def _whisker(name: str, own: CurveBand, x: AxisScale, y: AxisScale, said: str, style: str) -> list[Markup]:
    """Return a bar for a single epoch from the lowest to the highest seed, with a dot per seed beside it."""
    ((epoch, low),), ((_, high),) = own.low, own.high
    at, heights = x.x(epoch), [y.y(100 * value, PANEL) for value in own.last.values()]
    dots = [
        svg.moved(svg.dot(at, height, f"{name}, seed {seed}: {points(own.last[seed])} %"), 13 + 8 * lane)
        for seed, height, lane in zip(own.last, heights, svg.lanes(heights, 7.0), strict=True)
    ]
    return [svg.post(at, y.y(100 * high, PANEL), y.y(100 * low, PANEL), said, style), *dots]


def reading(study: AblationPageData) -> str:
    """Return the sentence on how to read the panels."""
    known = finished(study, "watched/acc")
    single = bool(known) and all(made.is_point for made in known.values())
    what = f"{watched(study).capitalize()} accuracy, %, " + ("after one epoch" if single else "by epoch")
    spread = "with a bar from the lowest to the highest" if single else "in a band from the lowest to the highest"
    said = f"{what}: the mean over finished seeds {spread}"
    if single and any(made.seeds > 1 for made in known.values()):
        said += "; small dots beside it, one seed each"
    if len(study.comparison.rows) > 1:
        said += f"; thin grey, {study.comparison.control}"
    return f"{said}; × where a cell diverged."


def _lost(curves: Mapping[int, Curve]) -> str:
    return f", {len(curves)} diverged" if curves else ""


def _seeds(made: CurveBand) -> str:
    return f"{made.seeds} seeds" if made.seeds > 1 else "one seed"


# The writeup's four figures


def learning_rate(study: AblationPageData) -> Markup | None:
    """Draw figure 1, the learning rate by epoch; None without data."""
    found = finished(study, "lr")
    peaks = [max(value for _, value in made.mean) for made in found.values()]
    if not peaks or max(peaks) <= 0:
        return None
    values = [value for made in found.values() for _, value in made.mean]
    apart = max(peaks) > APART * min(peaks)
    scale = svg.logarithmic(values, decades=5) if apart else svg.linear([0.0, *values])
    title = f"learning rate, logarithmic, from {scale.low:g}" if apart else "learning rate"
    return _figure(found, scale, title, lambda made: made.mean)


def accuracy(study: AblationPageData, *, late: bool = False) -> Markup | None:
    """Draw figure 2: one line per variant, the mean over its seeds.

    `late`: the second half of the longest training, where the lines are close; None if that has only a few epochs.
    """
    found = finished(study, "watched/acc")
    longest = max((made.mean[-1][0] for made in found.values()), default=0)
    since = longest // 2 if late else 0
    if not found or (late and since < FEW):
        return None
    drawn = {name: [(e, v) for e, v in _percent(made.mean) if e > since] for name, made in found.items()}
    kept = {name: found[name] for name, values in drawn.items() if values}
    scale = svg.linear([value for values in drawn.values() for _, value in values])
    title = f"{watched(study)} accuracy, %"
    return _figure(kept, scale, title, lambda made: [(e, v) for e, v in _percent(made.mean) if e > since])


def accuracy_by_interval(study: AblationPageData) -> Markup | None:
    """Draw figure 3: means over ten epochs; single epochs if fewer than ten were trained."""
    found = finished(study, "watched/acc")
    if not found:
        return None
    length = interval_length(study)
    steps = {
        name: [(first - 0.5, last + 0.5, 100 * mean) for first, last, mean in intervals(made.mean, length)]
        for name, made in found.items()
    }
    y = svg.linear([value for each in steps.values() for _, _, value in each])
    x = svg.linear([end for each in steps.values() for first, last, _ in each for end in (first, last)], room=0.0,
                   whole=True)  # fmt: skip
    paths, marks = [], []
    for name, each in steps.items():
        index, (first, last, value) = found[name].index, each[-1]
        many = f"{len(each)} interval" + ("" if len(each) == 1 else "s")
        paths.append(svg.stairs(each, x, y, HEIGHT, f"{name}: {many}", svg.style(index)))
        said = f"{name}, epochs {first + 0.5:.0f} to {last - 0.5:.0f}: {value:.2f} %"
        height = y.y(value, HEIGHT)
        marks.append((height, svg.mark(x.x((first + last) / 2), height, said, index=index)))
    title = f"{watched(study)} accuracy, %" + (f", mean of {length} epochs" if length > 1 else "")
    return _whole(x, y, title, paths, _dodged(marks, all(len(each) == 1 for each in steps.values())))


def interval_length(study: AblationPageData) -> int:
    """Return the number of epochs that figure 3 averages over."""
    found = finished(study, "watched/acc")
    return INTERVAL if max((made.mean[-1][0] for made in found.values()), default=0) >= INTERVAL else 1


def loss(study: AblationPageData, metric: str) -> Markup | None:
    """Draw figure 4, the loss by epoch: `train/loss` or `watched/loss`."""
    found = finished(study, metric)
    if not found:
        return None
    values = [value for made in found.values() for _, value in made.mean]
    what = "training" if metric == "train/loss" else watched(study)
    return _figure(found, svg.linear([0.0, _top(values)]), f"{what} loss, nats", lambda made: made.mean)


def _top(values: Sequence[float]) -> float:
    """Return the upper end of the axis: the maximum, unless a few outliers would flatten the other values."""
    high = quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
    return max(values) if max(values) <= 4 * high else 2 * high


def _figure(
    found: Mapping[str, CurveBand], y: AxisScale, title: str, curve: Callable[[CurveBand], Sequence[tuple[int, float]]]
) -> Markup:
    drawn = {name: curve(made) for name, made in found.items()}
    x = _epochs(drawn.values())
    paths, marks = [], []
    for name, values in drawn.items():
        index, said = found[name].index, f"{name}: mean of {_seeds(found[name])}"
        paths.append(svg.line(values, x, y, HEIGHT, said, svg.style(index)))
        for epoch, value in values if len(values) <= FEW else values[-1:]:
            said, height = f"{name}, epoch {epoch}: {value:.4g}", y.y(value, HEIGHT)
            marks.append((height, svg.mark(x.x(epoch), height, said, index=index)))
    return _whole(x, y, title, paths, _dodged(marks, all(len(values) == 1 for values in drawn.values())))


def _dodged(marks: Sequence[tuple[float, Markup]], at_one_x: bool) -> list[Markup]:
    """Return marks, given with their y; if all have one x, overlapping ones are shifted to the right and left."""
    lanes = svg.lanes([height for height, _ in marks], NEAR) if at_one_x else [0] * len(marks)
    sides = [(lane + 1) // 2 * (1 if lane % 2 else -1) for lane in lanes]
    return [svg.moved(mark, 1.2 * NEAR * side) for side, (_, mark) in zip(sides, marks, strict=True)]


def _whole(x: AxisScale, y: AxisScale, title: str, paths: Sequence[Markup], marks: Sequence[Markup]) -> Markup:
    axes, said = (svg.x_axis(x, HEIGHT, "epoch"), svg.y_axis(y, HEIGHT, title)), f"{title} by epoch"
    return svg.drawing(*axes, svg.lines(HEIGHT, *paths), *marks, height=HEIGHT, words=said, left=svg.room(y))


def _epochs(curves: Iterable[Sequence[tuple[int, float]]]) -> AxisScale:
    return svg.linear([float(epoch) for curve in curves for epoch, _ in curve], room=0.0, whole=True)


def _percent(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(epoch, 100 * value) for epoch, value in curve]

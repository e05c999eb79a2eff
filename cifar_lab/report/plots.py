"""The plots of a comparison: differences and accuracies with every seed drawn, and accuracy against its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low

from markupsafe import Markup

from cifar_lab.report import svg
from cifar_lab.report.comparison import Comparison, Row
from cifar_lab.report.sheets import note, points, span
from cifar_lab.report.svg import Scale

ROW = 42.0
"""Pixels from one variant to the next."""
PANEL = 190.0
"""Height of a panel of costs."""
LONGEST = 18
"""Letters of a name."""
OUTLIER = 6
"""How many times farther out than the typical variant the farthest must be to earn the others a close-up."""
ALIKE = 0.02
"""Costs that differ by less are not drawn."""
SHAPES = {"better": 3, "worse": 4, "equivalent": 1}
"""Of the mean by verdict: triangles up and down, a square; else a circle."""
COSTS = (
    ("parameters_trained", 1e6, "parameters, millions"),
    ("macs", 1e6, "multiply-accumulates an image, millions"),
    ("seconds", 1.0, "seconds of training a cell"),
)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One line of a dot-and-interval plot; values are fractions."""

    name: str
    verdict: str = ""
    mean: float | None = None
    interval: tuple[float, float] | None = None
    dots: Mapping[int, float] = field(default_factory=dict)
    """By seed."""
    label: str = ""
    """What is written for a long name."""
    words: str = ""
    """What stands in the place of marks, where there is nothing to draw."""

    @property
    def values(self) -> list[float]:
        return [*self.dots.values(), *(self.interval or ()), *([self.mean] if self.mean is not None else [])]

    @property
    def short(self) -> str:
        label = self.label or self.name
        return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"

    @property
    def reach(self) -> float:
        return max(map(abs, self.values), default=0.0)


def differences(comparison: Comparison, limit: float | None = None) -> Markup | None:
    """Each row's differences by seed, their mean and its interval; None where nothing is compared.

    limit: a close-up of the differences up to it.
    """
    found = [_of_difference(row) for row in comparison.rows if row.against is not None]
    if not found:
        return None
    against = "the stage before" if comparison.chain else comparison.control
    title = f"difference in accuracy to {against}, points"
    return strips(found, title=title, margin=comparison.margin, limit=limit)


def closeup(comparison: Comparison) -> float | None:
    """The limit of a close-up, where a few rows are so far out that nothing is seen of the others; else None."""
    found = [_of_difference(row).reach for row in comparison.rows if row.against is not None and row.differences]
    if not found:
        return None
    near = [reach for reach in found if reach <= OUTLIER * max(median_low(found), comparison.margin)]
    return 1.1 * max(*near, comparison.margin) if near and len(near) < len(found) else None


def effects(comparison: Comparison) -> Markup | None:
    """The two main effects and the interaction of a 2 × 2 study."""
    found = [
        Strip(
            name=effect.name,
            label="interaction" if "×" in effect.name else effect.name.partition(".")[2] or effect.name,
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
            words="" if row.mean is not None else ended(row),
        )
        for row in comparison.rows
    ]
    return strips(found, title="accuracy on test, %") if any(strip.values for strip in found) else None


def indices(comparison: Comparison) -> dict[str, int]:
    """By variant, what colours and shapes it where each has its own: the control first."""
    names = [row.variant for row in comparison.rows]
    ordered = sorted(names, key=lambda name: name != comparison.control)
    return {name: i for i, name in enumerate(ordered)}


def ended(row: Row) -> str:
    """What became of a row without a mean: `diverged in 3 of 3`, else what its note says."""
    return f"diverged in {row.diverged} of {of(row)}" if row.verdict == "diverged" else note(row)


def of(row: Row) -> int:
    """Cells that were asked for."""
    return row.n + row.missing + row.running + row.failed + row.diverged


def _of_difference(row: Row) -> Strip:
    nothing = "" if row.difference is not None else ended(row) if row.n == 0 else row.reason or ""
    return Strip(
        name=row.variant,
        verdict=row.verdict or "",
        mean=row.difference,
        interval=row.interval,
        dots=row.differences,
        words=nothing,
    )


# Dots and intervals


def strips(found: Sequence[Strip], *, title: str, margin: float | None = None, limit: float | None = None) -> Markup:
    """A line each: dots of the seeds, above them the mean and its interval; the margin shaded.

    margin: none of accuracies, which are not differences.
    """
    signed = margin is not None
    values = [100 * value for strip in found for value in strip.values]
    if margin is not None:
        values += [0.0, -130 * margin, 130 * margin]
    if limit is not None:
        values = [min(max(value, -100 * limit), 100 * limit) for value in values]
    scale, height = svg.linear(values), ROW * len(found)
    parts = []
    if margin is not None:
        said = f"± {points(margin)} points: a difference that does not matter"
        parts.append(svg.shade(scale, -100 * margin, 100 * margin, height, said))
    parts.append(svg.x_axis(scale, height, title))
    if signed:
        parts.append(svg.tag("line", class_="zero", x1=scale.x(0), x2=scale.x(0), y1=-6, y2=height))
    left = 18 + max(max(8.2 * len(strip.short), 6.6 * len(strip.verdict)) for strip in found)
    for i, strip in enumerate(found):
        parts += [_label(strip, ROW * (i + 0.5), left), *_strip(strip, scale, ROW * (i + 0.5), signed, limit)]
    words = f"{title}: " + "; ".join(f"{strip.name} {_aside(strip, signed) or strip.words}" for strip in found)
    return svg.drawing(*parts, height=height, words=words, class_="strips", left=left)


def _label(strip: Strip, y: float, left: float) -> Markup:
    """Name and verdict, at the edge of the page."""
    name = svg.tag("text", svg.tag("title", strip.name), strip.short, class_="name", x=0, dx=-left, y=y)
    class_ = f"verdict {strip.verdict or 'none'}"
    return name + svg.tag("text", strip.verdict, class_=class_, x=0, dx=-left, y=y + 13)


def _strip(strip: Strip, scale: Scale, y: float, signed: bool, limit: float | None) -> Iterator[Markup]:
    class_ = strip.verdict or "none"
    yield svg.tag("text", _aside(strip, signed), class_="aside", x="100%", dx=14, y=y + 3)
    if not strip.values:
        if strip.verdict == "diverged":
            yield svg.cross("1%", y + 1, f"{strip.name}: {strip.words}", class_)
        yield svg.tag("text", strip.words, class_="instead", x="1%", dx=12, y=y + 5)
        return
    said = f"{strip.name}: {_aside(strip, signed)}"
    if strip.interval is not None and not _is_beyond(strip.mean, limit):
        low, high = (scale.x(100 * end) for end in strip.interval)
        yield svg.bar(low, high, y - 4, said, class_)
    if strip.mean is not None and len(strip.dots) != 1:  # the mean of one seed is that seed
        index = SHAPES.get(strip.verdict, 0)
        shape = svg.mark(scale.x(100 * strip.mean), y - 4, said, index=index, class_=class_)
        yield _arrow(strip.mean, y, said) if _is_beyond(strip.mean, limit) else shape
    for seed, value in strip.dots.items():
        said = f"{strip.name}, seed {seed}: {points(value, sign=signed)}"
        if not _is_beyond(value, limit):
            yield svg.dot(scale.x(100 * value), y + 9, said)
        elif not _is_beyond(strip.mean, limit) or len(strip.dots) == 1:
            yield _arrow(value, y + 9, said)


def _is_beyond(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and abs(value) > limit


def _arrow(value: float, y: float, words: str) -> Markup:
    return svg.arrow("0%" if value < 0 else "100%", y, words, left=value < 0)


def _aside(strip: Strip, signed: bool) -> str:
    """`-0.80 [-1.20, -0.40]`; of accuracies `91.23 [91.01, 91.45]`."""
    if strip.interval is None or signed:
        return f"{points(strip.mean, sign=signed)} {span(strip.interval)}".strip()
    return f"{points(strip.mean)} [{', '.join(map(points, strip.interval))}]"


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

"""SVG as text: scales, axes, marks, lines. Pure functions; all external text is escaped.

A drawing is as wide as its box: x is a share of its width and y is in pixels, so that text keeps its size on a phone
and on paper. Labels extend into the padding of the box. Colours are CSS classes, defined by the page's theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

STRETCHED = 1000
"""Width of the coordinate system of lines, which is stretched to the width of the box."""
FINEST = 1e-9
"""Differences below this are rounding."""
STYLES = 9
"""Number of colours with a dash pattern of their own."""
SHAPES = (
    "M-4.4 0a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0z",  # circle
    "M-3.9 -3.9h7.8v7.8h-7.8z",  # square
    "M0 -5.4L5.4 0L0 5.4L-5.4 0z",  # diamond
    "M0 -5L5 3.8H-5z",  # triangle
    "M0 5L5 -3.8H-5z",  # inverted triangle
    "M-1.7 -5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",  # plus
    "M0 -5.2L4.9 -1.6L3.1 4.3H-3.1L-4.9 -1.6z",  # pentagon
    "M-5 -2.2h10v4.4h-10z",  # bar
)
HEAD = "head"
"""Class of an arrow that replaces an interval's end."""
CROSS = "M-4 -4L4 4M-4 4L4 -4"

Point = tuple[float, float]


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element. Children that are not `Markup` are escaped as text; attributes that are None are left out."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup("").join(children))


@dataclass(frozen=True, kw_only=True)
class AxisScale:
    """Range of an axis, with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return the position of a value, from 0 at the low end to 1 at the high end; clipped beyond them."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)

    def x(self, value: float) -> str:
        return f"{100 * self.share(value):.2f}%"

    def y(self, value: float, height: float) -> float:
        return round(height * (1 - self.share(value)), 1)

    def labels(self) -> list[str]:
        """Return the tick labels, with as many decimals as distinguish them."""
        if self.is_log:
            return [f"{tick:g}" for tick in self.ticks]
        steps = [b - a for a, b in pairwise(self.ticks)] or [1.0]
        close = min(steps) / 100
        decimals = next((n for n in range(12) if all(abs(round(t, n) - t) < close for t in self.ticks)), 12)
        return [f"{tick + 0.0:,.{decimals}f}" for tick in self.ticks]


def linear(values: Iterable[float], *, count: int = 5, room: float = 0.05, whole: bool = False) -> AxisScale:
    """Return a linear scale that includes `values` with some room at both ends, and about `count` round ticks.

    `whole`: ticks are whole numbers.
    """
    every = list(values) or [0.0, 1.0]
    low, high = min(every), max(every)
    is_wide = high - low > FINEST * max(1.0, abs(low), abs(high))
    edge = room * (high - low) if is_wide else 0.05 * abs(high) if abs(high) > 1000 * FINEST else 0.5
    low, high = low - edge, high + edge
    step = nice((high - low) / count)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return AxisScale(low=low, high=high, ticks=tuple(round(i * step, 12) for i in range(first, last + 1)))


def logarithmic(values: Iterable[float], *, decades: int = 4) -> AxisScale:
    """Return a scale of positive `values` with ticks at powers of ten, over at most the highest `decades`."""
    every = [value for value in values if value > 0] or [1.0]
    top = math.ceil(math.log10(max(every)) - 1e-9)
    bottom = max(math.floor(math.log10(min(every)) + 1e-9), top - decades)
    bottom = min(bottom, top - 1)
    ticks = tuple(10.0**power for power in range(bottom, top + 1))
    return AxisScale(low=ticks[0], high=ticks[-1], ticks=ticks, is_log=True)


def nice(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, whichever is closest to `step` by ratio."""
    power = 10.0 ** math.floor(math.log10(step))
    return min((power * factor for factor in (1, 2, 5, 10)), key=lambda found: abs(math.log(found / step)))


# Axes


def x_axis(scale: AxisScale, height: float, title: str) -> Markup:
    """Return vertical grid lines at the ticks, their labels below, and the title below these."""
    rules = [tag("line", class_="rule", x1=scale.x(t), x2=scale.x(t), y1=0, y2=height) for t in scale.ticks]
    labels = [
        tag("text", label, class_="tick mid", x=scale.x(t), y=height + 17)
        for t, label in zip(scale.ticks, scale.labels(), strict=True)
    ]
    return Markup("").join([*rules, *labels, tag("text", title, class_="axis mid", x="50%", y=height + 34)])


def y_axis(scale: AxisScale, height: float, title: str) -> Markup:
    """Return horizontal grid lines at the ticks, their labels on the left, and the title above them."""
    places = [scale.y(tick, height) for tick in scale.ticks]
    rules = [tag("line", class_="rule", x1=0, x2="100%", y1=y, y2=y) for y in places]
    labels = [
        tag("text", label, class_="tick end", x=0, dx=-8, y=y, dy="0.35em")
        for y, label in zip(places, scale.labels(), strict=True)
    ]
    return Markup("").join([*rules, *labels, tag("text", title, class_="axis", x=0, dx=-room(scale), y=-12)])


def room(scale: AxisScale) -> float:
    """Return the width in pixels of the labels of a `y_axis`."""
    return 10 + 6.6 * max(map(len, scale.labels()), default=0)


# Marks


def style(index: int) -> str:
    """Return the CSS class for colour and dashes of the `index`-th line of a drawing."""
    return f"s{index % STYLES}"


def mark(x: str, y: float, words: str, *, index: int = 0, class_: str | None = None) -> Markup:
    """Return a filled shape, distinct for each of the first indices; `words`: tooltip."""
    return _shape(x, y, words, SHAPES[index % len(SHAPES)], f"mark {class_ if class_ is not None else style(index)}")


def cross(x: str, y: float, words: str, class_: str = "") -> Markup:
    """Return the mark of a diverged cell, which has no value."""
    return _shape(x, y, words, CROSS, f"cross {class_}".strip())


def arrow(x: str, y: float, words: str, *, left: bool) -> Markup:
    """Return an arrow towards values beyond the end of an axis."""
    return _shape(x, y, words, "M10 -4L2 0L10 4" if left else "M-10 -4L-2 0L-10 4", "cross beyond")


def _shape(x: str, y: float, words: str, path: str, class_: str) -> Markup:
    return tag("svg", tag("path", _said(words), d=path), class_=class_, x=x, y=y)


def _said(words: str) -> Markup:
    """Return the tooltip of a mark."""
    return tag("title", words) if words else Markup("")


def dot(x: str, y: float, words: str, class_: str = "seed") -> Markup:
    """Return the dot of one seed."""
    return tag("circle", _said(words), class_=class_, cx=x, cy=y, r=3.2)


def bar(x1: str, x2: str, y: float, words: str, class_: str = "", cut: tuple[bool, bool] = (False, False)) -> Markup:
    """Return a horizontal interval with end marks; an end cut off by the axis becomes an arrow."""
    ends = []
    for x, is_cut, head in ((x1, cut[0], "M5 -4L-1 0L5 4"), (x2, cut[1], "M-5 -4L1 0L-5 4")):
        arrow = tag("svg", tag("path", d=head), class_=HEAD, x=x, y=y)
        ends.append(arrow if is_cut else tag("line", x1=x, x2=x, y1=y - 4, y2=y + 4))
    return tag("g", _said(words), tag("line", x1=x1, x2=x2, y1=y, y2=y), *ends, class_=f"bar {class_}".strip())


def post(x: str, y1: float, y2: float, words: str, class_: str = "") -> Markup:
    """Return a vertical interval."""
    return tag("g", _said(words), tag("line", x1=x, x2=x, y1=y1, y2=y2), class_=f"bar {class_}".strip())


def moved(made: Markup, dx: float) -> Markup:
    """Shift a mark to the right by `dx` pixels, beside others at the same place."""
    return tag("g", made, transform=f"translate({dx:g} 0)") if dx else made


def lanes(places: Sequence[float], apart: float) -> list[int]:
    """Assign marks at one x to lanes: the first lane without an earlier mark nearer than `apart` in y."""
    taken: list[int] = []
    for i, place in enumerate(places):
        near = {taken[j] for j in range(i) if abs(places[j] - place) < apart}
        taken.append(next(lane for lane in range(i + 1) if lane not in near))
    return taken


def shade(scale: AxisScale, low: float, high: float, height: float, words: str) -> Markup:
    """Return the shaded part of a drawing between two values of x."""
    width = f"{100 * (scale.share(high) - scale.share(low)):.2f}%"
    return tag("rect", _said(words), class_="shade", x=scale.x(low), y=0, width=width, height=height)


# Lines


def line(points: Sequence[Point], x: AxisScale, y: AxisScale, height: float, words: str, class_: str) -> Markup:
    """Return a line through the points, to be put into `lines`."""
    return _path("M" + "L".join(_at(point, x, y, height) for point in points), words, f"line {class_}")


def stairs(steps: Sequence[tuple[float, float, float]], x: AxisScale, y: AxisScale, height: float, words: str,
           class_: str) -> Markup:  # fmt: skip
    """Return a step function: constant over each (from, to, value), with vertical lines between."""
    corners = [corner for first, last, value in steps for corner in ((first, value), (last, value))]
    return line(corners, x, y, height, words, class_)


def band(low: Sequence[Point], high: Sequence[Point], x: AxisScale, y: AxisScale, height: float, words: str,
         class_: str) -> Markup:  # fmt: skip
    """Return the area between two lines."""
    corners = [_at(point, x, y, height) for point in (*high, *reversed(low))]
    return _path("M" + "L".join(corners) + "z", words, f"band {class_}")


def _at(point: Point, x: AxisScale, y: AxisScale, height: float) -> str:
    return f"{STRETCHED * x.share(point[0]):.4g} {y.y(point[1], height):g}"


def _path(d: str, words: str, class_: str) -> Markup:
    return tag("path", _said(words), class_=class_, d=d, vector_effect="non-scaling-stroke")


def lines(height: float, *paths: Markup) -> Markup:
    """Return the container of lines: it stretches horizontally with the box, while strokes keep their width."""
    box = f"0 0 {STRETCHED} {height:g}"
    return tag("svg", *paths, viewBox=box, preserveAspectRatio="none", width="100%", height=height)


# The whole


def drawing(
    *parts: Markup, height: float, words: str, class_: str = "", left: float = 36, right: float | None = None
) -> Markup:
    """Return a drawing in its box. `words`: text alternative for screen readers; `left`, `right`: label room, px."""
    inner = tag("svg", *parts, role="img", aria_label=words, height=height)
    style = f"--left:{left:g}px" + (f";--right:{right:g}px" if right is not None else "")
    return tag("div", inner, class_=f"plot {class_}".strip(), style=style)


def swatch(index: int) -> Markup:
    """Return the sample of a line and mark for a legend."""
    path = tag("line", class_=f"line {style(index)}", x1=0, x2=30, y1=8, y2=8)
    return tag("svg", path, mark("15", 8, "", index=index), class_="swatch", width=30, height=16, aria_hidden="true")

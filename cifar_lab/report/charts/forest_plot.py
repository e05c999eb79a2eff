"""Forest plots: one line per row, with a dot per seed and above them the mean with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from cifar_lab.report.charts import svg
from cifar_lab.report.charts.svg import AxisScale
from cifar_lab.report.table_content import points, span

ROW = 42.0
"""Pixels between two lines."""
LONGEST = 18
"""Maximum characters of a name."""
LETTER = 7.0
"""Pixels per character of the numbers on the right, rounded up."""
GAP = 14
"""Pixels between the axis and those numbers."""
SHAPES = {"better": 3, "worse": 4, "equivalent": 1, "absent": 1, "present": 2}
"""Marks of the mean by verdict: triangles up and down, a square, a diamond; a circle otherwise."""
WIDEST = 1.0
"""Largest possible difference between two accuracies."""


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot; values are fractions."""

    name: str
    verdict: str = ""
    mean: float | None = None
    interval: tuple[float, float] | None = None
    dots: Mapping[int, float] = field(default_factory=dict)
    """Value by seed."""
    label: str = ""
    """Short form of a long name."""
    words: str = ""
    """Text instead of marks, if there is nothing to draw."""

    @property
    def values(self) -> list[float]:
        """Measured values: dots and mean."""
        return [*self.dots.values(), *([self.mean] if self.mean is not None else [])]

    @property
    def short(self) -> str:
        label = self.label or self.name
        return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"

    @property
    def reach(self) -> float:
        return max(map(abs, self.values), default=0.0)


def held(found: Sequence[ForestRow], margin: float | None = None) -> list[float]:
    """Return the values that the axis must include: dots, means, the margin around zero, and ends of intervals.

    An interval's end is left out if its distance from these values exceeds their range: the interval of two seeds may
    be a hundred times as wide as the differences, and would compress them. Without dots, the distance is limited by the
    largest possible difference of two accuracies.
    """
    values = [value for strip in found for value in strip.values]
    if margin is not None:
        values += [0.0, -1.3 * margin, 1.3 * margin]
    if not values:
        return []
    low, high = min(values), max(values)
    room = high - low if any(strip.dots for strip in found) else WIDEST
    ends = [end for strip in found for end in strip.interval or ()]
    return values + [end for end in ends if low - room <= end <= high + room]


def is_cut(drawing: Markup) -> bool:
    """Tell whether some interval extends beyond the axis, and so ends in an arrow."""
    return f'class="{svg.HEAD}"' in drawing


def strips(
    found: Sequence[ForestRow], *, title: str, margin: float | None = None, limit: float | None = None
) -> Markup:
    """Draw one line per strip: dots of the seeds, above them the mean with its interval; the margin shaded.

    `margin`: None for accuracies, which are not differences. `limit`: axis limit of a close-up.
    """
    signed = margin is not None
    scale, height = _axis(found, margin, limit), ROW * len(found)
    parts = []
    if margin is not None:
        said = f"± {points(margin)} points: a difference that does not matter"
        parts.append(svg.shade(scale, -100 * margin, 100 * margin, height, said))
    parts.append(svg.x_axis(scale, height, title))
    if signed:
        parts.append(svg.tag("line", class_="zero", x1=scale.x(0), x2=scale.x(0), y1=-6, y2=height))
    left = 18 + max(max(8.2 * len(strip.short), 6.6 * len(strip.verdict)) for strip in found)
    right = GAP + LETTER * max(len(_aside(strip, signed)) for strip in found)
    for i, strip in enumerate(found):
        parts += [_label(strip, ROW * (i + 0.5), left), *_strip(strip, scale, ROW * (i + 0.5), signed, limit)]
    words = f"{title}: " + "; ".join(f"{strip.name} {_aside(strip, signed) or strip.words}" for strip in found)
    return svg.drawing(*parts, height=height, words=words, class_="strips", left=left, right=right)


def _axis(found: Sequence[ForestRow], margin: float | None, limit: float | None) -> AxisScale:
    """Return the axis in percent."""
    values = [100 * value for value in held(found, margin)]
    if limit is not None:
        values = [min(max(value, -100 * limit), 100 * limit) for value in values]
    return svg.linear(values)


def _label(strip: ForestRow, y: float, left: float) -> Markup:
    """Draw name and verdict, at the edge of the page."""
    name = svg.tag("text", svg.tag("title", strip.name), strip.short, class_="name", x=0, dx=-left, y=y)
    class_ = f"verdict {strip.verdict or 'none'}"
    return name + svg.tag("text", strip.verdict, class_=class_, x=0, dx=-left, y=y + 13)


def _strip(strip: ForestRow, scale: AxisScale, y: float, signed: bool, limit: float | None) -> Iterator[Markup]:
    class_ = strip.verdict or "none"
    yield svg.tag("text", _aside(strip, signed), class_="aside", x="100%", dx=GAP, y=y + 3)
    if not strip.values:
        if strip.verdict == "diverged":
            yield svg.cross("1%", y + 1, f"{strip.name}: {strip.words}", class_)
        yield svg.tag("text", strip.words, class_="instead", x="1%", dx=12, y=y + 5)
        return
    said = f"{strip.name}: {_aside(strip, signed)}"
    if strip.interval is not None and not _is_beyond(strip.mean, limit):
        low, high = (100 * end for end in strip.interval)
        cut = (low < scale.low, high > scale.high)
        yield svg.bar(scale.x(low), scale.x(high), y - 4, said, class_, cut=cut)
    if strip.mean is not None and len(strip.dots) != 1:  # the mean of one seed is its value
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


def _aside(strip: ForestRow, signed: bool) -> str:
    """Return `-0.80 [-1.20, -0.40]`, without signs for accuracies: `91.23 [91.01, 91.45]`."""
    if strip.interval is None or signed:
        return f"{points(strip.mean, sign=signed)} {span(strip.interval)}".strip()
    return f"{points(strip.mean)} [{', '.join(map(points, strip.interval))}]"

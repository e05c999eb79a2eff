"""Dots and intervals, a line each: every seed as a dot, above them the mean and its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from cifar_lab.report import svg
from cifar_lab.report.sheets import points, span
from cifar_lab.report.svg import Scale

ROW = 42.0
"""Pixels from one line to the next."""
LONGEST = 18
"""Letters of a name."""
LETTER = 7.0
"""Pixels of a letter of the numbers on the right, rounded up."""
GAP = 14
"""Pixels between the axis and these."""
SHAPES = {"better": 3, "worse": 4, "equivalent": 1, "absent": 1, "present": 2}
"""Of the mean by verdict: triangles up and down, a square, a diamond; else a circle."""
WIDEST = 1.0
"""The largest difference that two accuracies can have."""


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
        """Dots and mean: what was measured."""
        return [*self.dots.values(), *([self.mean] if self.mean is not None else [])]

    @property
    def short(self) -> str:
        label = self.label or self.name
        return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"

    @property
    def reach(self) -> float:
        return max(map(abs, self.values), default=0.0)


def held(found: Sequence[Strip], margin: float | None = None) -> list[float]:
    """What the axis holds: dots, means, the margin around zero, and the ends of intervals that are not too far out.

    Too far is an end that lies farther beyond all these than they lie apart: two seeds may have an interval a hundred
    times as wide as what was measured, in which nothing else would be seen. Without dots, it is what no two accuracies
    can differ by.
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
    """Whether some interval reaches beyond its axis, and has an arrow in place of an end."""
    return f'class="{svg.HEAD}"' in drawing


def strips(found: Sequence[Strip], *, title: str, margin: float | None = None, limit: float | None = None) -> Markup:
    """A line each: dots of the seeds, above them the mean and its interval; the margin shaded.

    margin: none of accuracies, which are not differences. limit: of a close-up.
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


def _axis(found: Sequence[Strip], margin: float | None, limit: float | None) -> Scale:
    """Of percents."""
    values = [100 * value for value in held(found, margin)]
    if limit is not None:
        values = [min(max(value, -100 * limit), 100 * limit) for value in values]
    return svg.linear(values)


def _label(strip: Strip, y: float, left: float) -> Markup:
    """Name and verdict, at the edge of the page."""
    name = svg.tag("text", svg.tag("title", strip.name), strip.short, class_="name", x=0, dx=-left, y=y)
    class_ = f"verdict {strip.verdict or 'none'}"
    return name + svg.tag("text", strip.verdict, class_=class_, x=0, dx=-left, y=y + 13)


def _strip(strip: Strip, scale: Scale, y: float, signed: bool, limit: float | None) -> Iterator[Markup]:
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

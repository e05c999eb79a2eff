"""One look for all figures, which are written as SVG for a page or as PNG for a file or a notebook."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, FAINT, RULE, SHADE = "#fdfdfb", "#1d1d1b", "#6a6a63", "#e3e1d9", "#e9eef2"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#b8608f"
COLOURS = (INK, BLUE, ORANGE, GREEN, PINK, "#b97f00", "#2f95d0", "#8f8500", "#7a7a72")
"""Colours after Okabe and Ito (2008), distinct for all types of colour vision; markers differ too."""
MARKERS, GLYPHS = "osD^vPp", "●■◆▲▼✚⬟"
"""Markers of the lines, and the characters that show them in a legend."""
DASHES = ("-", "--", "-.", ":")
"""Patterns of the lines, so that a line under another is still seen."""
THEME = {PAPER: "paper", INK: "ink", FAINT: "faint", RULE: "rule", SHADE: "shade"} | {
    colour: f"s{i}" for i, colour in enumerate(COLOURS) if i
}
"""Name of the CSS variable that replaces a colour on a page."""
DPI = 120
TEXT_SIZE = 11.0
LONGEST = 40
"""Maximum characters of a name in a figure; a tooltip has the whole name."""
TIP, NEXT = "tip:", "\u2028"
"""Prefix of the group id that carries tooltips until the SVG is written, and the separator of several tooltips."""
_SAVING = threading.Lock()
"""Guards matplotlib's global settings, which determine how an SVG is written."""


class PageFigure(NamedTuple):
    """Drawing with its explanation."""

    title: str
    drawing: Markup
    caption: str = ""


class LegendEntry(NamedTuple):
    """Mark of a legend, with its CSS colour variable and its text."""

    glyph: str
    colour: str
    words: str


def new_axes(
    width: float,
    height: float,
    *,
    title: str = "",
    x: str = "",
    y: str = "",
    left: float | None = None,
    right: float = 12,
    bottom: float | None = None,
    scale: float = 1.0,
    is_fitted: bool = False,
) -> tuple[Figure, Axes]:
    """Return an empty figure of a size in pixels, and its axes with light grid lines and titles.

    `left`, `right`, `bottom`: room for the labels of the y axis, for text beyond the axes, and for the labels of the x
    axis, in pixels.
    `scale`: factor of the text. The margins are fixed, as a layout engine draws each figure twice; with `is_fitted` one
    finds them anew for each size of the figure, and wraps titles that are too long.
    """
    figure = _figure_class()(
        figsize=(width / 72, height / 72), dpi=DPI, facecolor=PAPER, layout="constrained" if is_fitted else None
    )
    start = left if left is not None else 62 if y else 34
    bottom = bottom if bottom is not None else 38 if x else 22
    box = (start / width, bottom / height, 1 - (start + right) / width, 1 - (bottom + (26 if title else 10)) / height)
    axes = figure.add_subplot(facecolor="none") if is_fitted else figure.add_axes(box, facecolor="none")
    axes.set_title(without_math(title), fontsize=scale * (TEXT_SIZE + 1), color=INK, wrap=is_fitted)
    axes.set_xlabel(without_math(x), fontsize=scale * TEXT_SIZE, color=FAINT, wrap=is_fitted)
    axes.set_ylabel(without_math(y), fontsize=scale * TEXT_SIZE, color=FAINT)
    axes.tick_params(which="both", labelsize=scale * (TEXT_SIZE - 1), labelcolor=FAINT, color=RULE, length=3)
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure, axes


@cache
def _figure_class() -> type[Figure]:
    """Return a class of figures that a notebook shows, without pyplot and its global state."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """Figure that is drawn where it is the last value of a notebook's cell."""

        def _repr_png_(self) -> bytes:
            return as_png(self)

    return ShownFigure


def whole_epochs(axes: Axes) -> None:
    """Put the ticks of the x axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def without_math(text: str) -> str:
    """Escape what matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def clipped(text: str, most: int = LONGEST) -> str:
    """Return a text of at most `most` characters, the rest replaced by an ellipsis; dollar signs are escaped."""
    return without_math(text if len(text) <= most else f"{text[: most - 1]}…")


def colour_of(index: int) -> str:
    """Return the colour of the `index`-th variant."""
    return COLOURS[index % len(COLOURS)]


def dashes_of(index: int) -> str:
    """Return the dash pattern of the `index`-th variant."""
    return DASHES[index % len(DASHES)]


def marker_of(index: int) -> str:
    """Return the marker of the `index`-th variant."""
    return MARKERS[index % len(MARKERS)]


def swatch(index: int, words: str) -> LegendEntry:
    """Return the legend entry of the `index`-th variant."""
    return LegendEntry(GLYPHS[index % len(GLYPHS)], THEME[colour_of(index)], words)


def add_tips(artists: Artist | Sequence[Artist], *words: str) -> None:
    """Give an artist a tooltip, or one to each of its markers if there are as many as `words`."""
    for artist in artists if isinstance(artists, Sequence) else [artists]:
        artist.set_gid(TIP + NEXT.join(words))


def as_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def as_svg(figure: Figure, words: str) -> Markup:
    """Return a figure as an inline SVG element whose text is text and whose colours follow the page's theme.

    `words`: text alternative for screen readers; it should contain the numbers.
    """
    import matplotlib as mpl

    buffer, salt = io.BytesIO(), hashlib.sha256(words.encode()).hexdigest()
    with _SAVING, warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    width, box = float(root.attrib["width"].removesuffix("pt")), root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": words, "style": f"max-width: {width:.0f}px"})
    for element in list(root.iter()):
        _adapt(element)
    return Markup(re.sub(r"\s*\n\s*", " ", ElementTree.tostring(root, encoding="unicode")))  # safe: a tree escapes text


def _adapt(element: ElementTree.Element) -> None:
    """Replace colours by the theme's variables and ids by tooltips; drop what an inline element does not need."""
    element.tag = _local(element.tag)
    for child in list(element):
        if _local(child.tag) in {"style", "metadata"}:
            element.remove(child)
    attributes = {_local(name): value for name, value in element.attrib.items()}
    if "style" in attributes:
        style = re.sub(r"font-family: [^;]*;? ?", "", attributes["style"])
        attributes["style"] = re.sub(r"#[0-9a-f]{6}", _themed, style)
    for name in {"d", "x", "y", "transform"} & set(attributes):
        attributes[name] = re.sub(r"(\.\d\d)\d+", r"\1", attributes[name])
    name = attributes.pop("id", "") if element.tag == "g" else ""
    element.attrib.clear()
    element.attrib.update(attributes)
    if name.startswith(TIP):
        _add_titles(element, name.removeprefix(TIP).split(NEXT))


def _local(name: str) -> str:
    """Return a name without its namespace, which HTML does not use."""
    return name.rpartition("}")[2]


def _themed(colour: re.Match[str]) -> str:
    return f"var(--{THEME[colour[0]]})" if colour[0] in THEME else colour[0]


def _add_titles(group: ElementTree.Element, words: Sequence[str]) -> None:
    """Insert tooltips: one for each mark of a group, or one for the group."""
    marks = [each for each in group.iter() if _local(each.tag) == "use"]
    for target, text in zip(marks if len(marks) == len(words) else [group], words, strict=False):
        title = ElementTree.Element("title")
        title.text = text
        target.insert(0, title)


def limits(values: Sequence[float], room: float = 0.05) -> tuple[float, float]:
    """Return the limits of an axis that includes `values` with some room at both ends."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    edge = room * (high - low) or 0.05 * abs(high) or 0.5
    return low - edge, high + edge


def set_ticks(axis: Any, places: Sequence[float], labels: Sequence[str]) -> None:
    """Set ticks with text labels; minor ticks are removed."""
    axis.set_ticks(list(places), labels=[clipped(each, 18) for each in labels])
    axis.set_ticks([], minor=True)

"""Figures as inline SVG: text stays text, marks have tooltips, colours follow the theme, nothing is fetched."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from PIL import Image

from cifar_lab.report.charts.figure import BLUE, add_tips, as_png, as_svg, limits, new_axes, swatch

NASTY = "<script>alert('x')</script>\"& $x_1$ 漢"


def drawn(words: str = "three trials") -> str:
    figure, axes = new_axes(300, 200, title=NASTY, x="epoch", y="accuracy")
    add_tips(axes.plot([0, 1, 2], [0.1, 0.2, 0.3], "o", color=BLUE), "first", NASTY, "third")
    add_tips(axes.fill_between([0, 2], [0, 0], [1, 1], color=BLUE), "band")
    return str(as_svg(figure, words))


def test_each_mark_and_each_area_has_its_tooltip() -> None:
    root = ElementTree.fromstring(drawn())
    assert sorted(each.text or "" for each in root.iter("title")) == sorted(["first", NASTY, "third", "band"])
    assert [use.findtext("title") for use in root.iter("use") if use.find("title") is not None][-3:] == [
        "first", NASTY, "third",
    ]  # fmt: skip


def test_text_is_text_and_the_text_alternative_is_escaped() -> None:
    root = ElementTree.fromstring(drawn(NASTY))
    assert root.get("aria-label") == NASTY
    assert NASTY in ["".join(each.itertext()) for each in root.iter("text")], "dollar signs are no mathematics"
    assert "<script" not in drawn(NASTY)


def test_colours_are_variables_of_the_theme_and_nothing_is_fetched() -> None:
    text = drawn()
    assert "var(--s1)" in text
    assert not re.search(r"#[0-9a-f]{6}\b|<style|<metadata|https?:|font-family", text)


def test_two_figures_on_one_page_share_no_id() -> None:
    first, second = (set(re.findall(r' id="([^"]+)"', drawn(words))) for words in ("a", "b"))
    assert first
    assert not first & second


def test_the_same_figure_is_written_in_the_same_bytes() -> None:
    assert drawn() == drawn()


def test_a_png_has_the_size_of_the_figure_at_its_resolution() -> None:
    picture = Image.open(io.BytesIO(as_png(new_axes(360, 180)[0])))
    assert (picture.format, picture.size) == ("PNG", (600, 300))


def test_an_axis_of_one_value_has_room_on_both_sides() -> None:
    for values in ([0.0], [5.0], [], [-1.0, 3.0]):
        low, high = limits(values)
        assert all(low < value < high for value in values)


def test_the_marks_of_a_legend_differ_by_character_or_colour() -> None:
    assert len({swatch(i, "")[:2] for i in range(20)}) == 20

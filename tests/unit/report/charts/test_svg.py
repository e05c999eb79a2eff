"""Scales, axes and marks: where things are drawn, what is written, and that nothing from outside gets through."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from cifar_lab.report.charts import svg

NASTY = '<script>alert("1")</script>&\''
values = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=20)


def parsed(made: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{made}</all>")


# Elements


def test_an_element_escapes_text_and_attributes_and_keeps_elements() -> None:
    made = svg.tag("text", NASTY, svg.tag("title", NASTY), class_=NASTY)
    (root,) = parsed(made)
    assert (root.text, root[0].text, root.get("class")) == (NASTY, NASTY, NASTY)
    assert "<script" not in made


def test_attributes_may_have_hyphens_and_those_without_a_value_are_left_out() -> None:
    assert svg.tag("svg", aria_label="a", class_="b", x=None) == '<svg aria-label="a" class="b"></svg>'


@pytest.mark.parametrize(
    "made",
    [
        svg.mark("1%", 2, NASTY), svg.cross("1%", 2, NASTY), svg.dot("1%", 2, NASTY), svg.bar("1%", "2%", 3, NASTY),
        svg.bar("1%", "2%", 3, NASTY, cut=(True, True)), svg.post("1%", 1, 2, NASTY),
        svg.arrow("1%", 2, NASTY, left=True), svg.drawing(height=1, words=NASTY),
        svg.x_axis(svg.linear([0, 1]), 10, NASTY), svg.y_axis(svg.linear([0, 1]), 10, NASTY),
    ],
)  # fmt: skip
def test_whatever_is_said_of_a_mark_is_well_formed_and_escaped(made: Markup) -> None:
    found = parsed(made)
    assert NASTY in [*found.itertext(), *(value for each in found.iter() for value in each.attrib.values())]


# Scales


@given(values)
def test_a_scale_holds_its_values_and_its_ticks(of: list[float]) -> None:
    scale = svg.linear(of)
    assert scale.low < scale.high
    assert all(0 <= scale.share(value) <= 1 for value in of)
    assert all(scale.low - 1e-6 * (scale.high - scale.low) <= tick <= scale.high * (1 + 1e-9) + 1e-9
               for tick in scale.ticks)  # fmt: skip


@given(st.lists(st.floats(-1000, 1000, allow_nan=False), min_size=2, max_size=9))
def test_ticks_are_few_and_their_labels_are_told_apart(of: list[float]) -> None:
    scale = svg.linear(of)
    labels = scale.labels()
    assert 1 <= len(labels) <= 12
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 0.1, ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]), (0, 100, ["0", "20", "40", "60", "80", "100"]),
        (-3.1, 2.2, ["-3", "-2", "-1", "0", "1", "2"]),
        (4_000, 9_000, ["4,000", "5,000", "6,000", "7,000", "8,000", "9,000"]),
    ],
)  # fmt: skip
def test_ticks_are_round(low: float, high: float, labels: list[str]) -> None:
    assert svg.linear([low, high]).labels() == labels


def test_ticks_of_epochs_are_whole() -> None:
    assert svg.linear([1, 3], room=0.0, whole=True).ticks == (1, 2, 3)
    assert svg.linear([1], room=0.0, whole=True).ticks == (1,)


def test_one_value_stands_in_the_middle() -> None:
    assert svg.linear([0.9]).share(0.9) == pytest.approx(0.5)
    assert svg.linear([0.0]).share(0.0) == pytest.approx(0.5)


def test_of_no_value_there_is_an_empty_scale() -> None:
    assert svg.linear([]).low < svg.linear([]).high
    assert svg.logarithmic([]).low < svg.logarithmic([]).high


def test_a_logarithmic_scale_has_powers_of_ten_and_is_cut_off_below() -> None:
    scale = svg.logarithmic([0.1, 0.001, 1e-12, 0.0], decades=4)
    assert scale.labels() == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert (scale.share(0.1), scale.share(1e-12)) == (1, 0)
    assert scale.share(0.001) == pytest.approx(0.5)


def test_what_lies_beyond_a_scale_is_drawn_at_its_end() -> None:
    scale = svg.linear([0, 1], room=0.0)
    assert (scale.share(-5), scale.share(7)) == (0, 1)


# Places


def test_x_is_a_share_of_the_width_and_y_is_in_pixels_from_above() -> None:
    scale = svg.linear([0, 4], room=0.0)
    assert (scale.x(1), scale.y(1, 200)) == ("25.00%", 150)


def test_a_line_goes_from_point_to_point() -> None:
    x, y = svg.linear([1, 5], room=0.0), svg.linear([0, 1], room=0.0)
    (path,) = parsed(svg.line([(1, 0.0), (3, 0.5), (5, 1.0)], x, y, 100, "r4", "s1"))
    assert path.get("d") == "M0 100L500 50L1000 0"
    assert path.get("vector-effect") == "non-scaling-stroke"


def test_stairs_are_level_over_each_step() -> None:
    x, y = svg.linear([0, 4], room=0.0), svg.linear([0, 1], room=0.0)
    (path,) = parsed(svg.stairs([(0, 2, 0.0), (2, 4, 1.0)], x, y, 100, "r4", "s1"))
    assert path.get("d") == "M0 100L500 100L500 0L1000 0"


def test_a_band_is_closed_between_its_two_lines() -> None:
    x, y = svg.linear([0, 1], room=0.0), svg.linear([0, 1], room=0.0)
    (path,) = parsed(svg.band([(0, 0.0), (1, 0.2)], [(0, 0.5), (1, 1.0)], x, y, 100, "r4", "s1"))
    assert path.get("d") == "M0 50L1000 0L1000 80L0 100z"


def test_variants_are_told_apart_by_more_than_colour() -> None:
    looks = {(svg.style(i), re.findall(r' d="([^"]+)"', svg.mark("0%", 0, "", index=i))[0]) for i in range(72)}
    assert len(looks) == 72


# Where there is no room


def test_an_interval_that_is_cut_off_has_an_arrow_in_place_of_that_end() -> None:
    for cut, ends, heads in (((False, False), 2, 0), ((True, False), 1, 1), ((True, True), 0, 2)):
        (group,) = parsed(svg.bar("10%", "90%", 5, "", cut=cut))
        assert len(group.findall("line")) == 1 + ends
        assert len([each for each in group if each.get("class") == svg.HEAD]) == heads


def test_marks_that_would_lie_on_one_another_get_lanes_and_others_none() -> None:
    assert svg.lanes([10, 50, 90], 10) == [0, 0, 0]
    assert svg.lanes([10, 10, 10], 10) == [0, 1, 2]
    assert svg.lanes([10, 15, 22, 60], 10) == [0, 1, 0, 0]
    assert svg.moved(svg.dot("1%", 2, ""), 0) == svg.dot("1%", 2, "")
    assert 'transform="translate(12 0)"' in svg.moved(svg.dot("1%", 2, ""), 12)


def test_a_drawing_leaves_the_room_on_the_right_that_it_is_told_to() -> None:
    assert 'style="--left:36px;--right:120px"' in svg.drawing(height=1, words="", right=120)
    assert 'style="--left:36px"' in svg.drawing(height=1, words="")

"""The page of a study in a browser, made by hand to be wide: what a screen or a sheet of paper could cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made.comparisons import CONTROL
from made.studies import WORSE, study

from cifar_lab.report.html import render_ablations

pytestmark = pytest.mark.browser

PHONE = {"width": 400, "height": 800}
A4 = {"width": 680, "height": 1000}
"""Printable area of a page, in pixels of 1/96 inch."""
WIDE = replace(
    WORSE, variant="a_long_name_of_one", verdict="undecided", n=2, pairs=2, difference=0.1434, diverged=3,
    differences={0: 0.12, 1: 0.1668}, interval=(-3.4272, 3.714),
)  # fmt: skip
OUTSIDE = """
[...document.querySelectorAll('SELECTOR')].filter(it => it.checkVisibility()).filter(it => {
  const r = it.getBoundingClientRect(); return r.width && (r.left < -1 || r.right > innerWidth + 1)
}).map(it => it.textContent)
"""
Open = Callable[..., Any]


@pytest.fixture
def opened(page: Any, tmp_path: Path) -> Iterator[Open]:
    """`opened(PHONE)`: the page of a study with wide numbers, at that size; with `epochs=1`, of a close one."""
    made = []

    def open_(size: dict[str, int], *, media: str = "screen", epochs: int = 20) -> Any:
        path = tmp_path / "study.html"
        rows = (CONTROL, WORSE) if epochs == 1 else (CONTROL, WORSE, WIDE)
        path.write_text(render_ablations([study(*rows, epochs=epochs)]), encoding="utf-8")
        own = page.context.browser.new_page(viewport=size)
        made.append(own)
        own.emulate_media(media=media)
        own.goto(path.as_uri())
        return own

    yield open_
    for own in made:
        own.close()


def test_on_paper_the_numbers_beside_the_plot_are_whole(opened: Open) -> None:
    own = opened(A4, media="print")
    assert "+14.34 [-342.72, +371.40]" in own.locator("svg text").all_text_contents()
    assert own.evaluate(OUTSIDE.replace("SELECTOR", "svg text")) == []


def test_on_a_wide_screen_too(opened: Open) -> None:
    own = opened({"width": 1280, "height": 900})
    assert own.evaluate(OUTSIDE.replace("SELECTOR", "svg text")) == []
    box = own.locator("main").bounding_box()
    ends = own.evaluate("[...document.querySelectorAll('svg text')].map(it => it.getBoundingClientRect().right)")
    assert max(ends) <= box["x"] + box["width"]


def test_on_a_telephone_every_cell_of_the_main_table_is_on_the_screen_with_its_heading(opened: Open) -> None:
    own = opened(PHONE)
    assert own.evaluate(OUTSIDE.replace("SELECTOR", ".result th, .result td")) == []
    cells = own.evaluate(
        "[...document.querySelectorAll('.result td')].filter(it => it.textContent).map(it => "
        "[getComputedStyle(it, '::before').content, it.textContent])"
    )
    shown = {(heading.strip('" '), text) for heading, text in cells}
    assert ("interval", "[-342.72, +371.40]") in shown
    assert ("verdict", "undecided") in shown
    assert any(heading == "note" and text.startswith("3 diverged") for heading, text in shown)
    assert own.evaluate("document.querySelector('.result').parentElement.scrollWidth") <= PHONE["width"]


def test_on_a_wide_screen_the_main_table_is_a_table_without_headings_in_its_cells(opened: Open) -> None:
    own = opened({"width": 1280, "height": 900})
    cell = own.locator(".result td").first
    assert cell.evaluate("it => getComputedStyle(it).display") == "table-cell"
    assert cell.evaluate("it => getComputedStyle(it, '::before').content") == "none"


def test_of_one_epoch_every_seed_can_be_seen(opened: Open) -> None:
    own = opened({"width": 1280, "height": 900}, epochs=1)
    places = own.evaluate(
        "[...document.querySelectorAll('.panels figure:nth-child(2) use')].filter(it => /, seed/.test(it.textContent))"
        ".map(it => [it.getBoundingClientRect().x, it.getBoundingClientRect().y])"
    )
    assert len(places) == 5
    apart = [max(abs(a - c), abs(b - d)) for i, (a, b) in enumerate(places) for c, d in places[:i]]
    assert min(apart) >= 6, "two seeds lie on one another"

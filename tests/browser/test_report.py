"""Pages of `report` and `sweep-report` in a browser: offline, in both themes, on a phone, in print."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from made.spaces import Told

from cifar_lab.cli import run
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.storage import open_storage

pytestmark = pytest.mark.browser

PHONE = {"width": 400, "height": 800}
WIDE = {"width": 1200, "height": 900}
Open = Callable[..., Any]
NASTY = "<script>document.title=1;alert(1)"
SPACE = f"""
from cifar_lab import RESNET18
from cifar_lab.search.dimension import Bundle, Integer, Real
from cifar_lab.search.space import Space

NASTY = {NASTY!r}
SPACE = Space(
    question=NASTY,
    baseline=RESNET18.override({{"model.width": 32, "model.blocks": (1, 1)}}),
    dimensions=(
        Integer(path="model.width", low=16, high=128, step=16),
        Real(name=NASTY + "n" * 60, path="optim.lr", low=0.001, high=1.0, log=True),
        Bundle(name="clip", options={{NASTY: {{"optim.clip.by": "none"}}, "l" * 60: {{"optim.clip.by": "norm"}}}}),
    ),
)
"""


class Log:
    """Requests and errors of a page."""

    def __init__(self, page: Any) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture(scope="module")
def reports(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The page of one study, that of the whole registry, and that of a search."""
    folder = tmp_path_factory.mktemp("reports")
    made = {"one": folder / "one.html", "all": folder / "all.html", "sweep": folder / "sweep.html"}
    for name, what in (("one", "se_ratio"), ("all", "--all")):
        assert run(["report", what, "--runs", str(shipped / "runs"), "-o", str(made[name])]) == 0
    _search(folder)
    assert run(["sweep-report", NASTY, "--runs", str(folder), "-o", str(made["sweep"])]) == 0
    return made


def _search(folder: Path) -> None:
    """A study of 30 trials, in which whatever a user may name is nasty."""
    (folder / f"{NASTY}.py").write_text(SPACE)
    source, chance = str(folder / f"{NASTY}.py"), random.Random(0)
    made = Told(source, study=NASTY, storage=open_storage(None, folder), budget=SearchBudget(max_params=400_000))
    for i in range(27):
        made.trained(0.8 + 0.1 * chance.random(), diverged=i == 5)
    made.pruned(0.3, 0.5, params={"model.width": 16})
    made.failed(NASTY, {"model.width": 16})
    made.begun({"model.width": 16})


@pytest.fixture
def opened(page: Any, reports: Mapping[str, Path]) -> Iterator[Open]:
    """`opened("one", theme="dark", size=PHONE)`: a page of its own, and the log of what it did."""
    pages = []

    def open_(name: str, *, theme: str = "light", size: Mapping[str, int] = WIDE) -> tuple[Any, Log]:
        made = page.context.browser.new_page(viewport=dict(size), color_scheme=theme)
        pages.append(made)
        log = Log(made)
        made.goto(reports[name].as_uri())
        made.wait_for_load_state("networkidle")
        return made, log

    yield open_
    for made in pages:
        made.close()


def _save(made: Any, name: str) -> None:
    folder = os.environ.get("CIFAR_LAB_PICTURES")
    if folder:
        made.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("name", ["one", "all", "sweep"])
def test_nothing_is_asked_for_but_the_file_and_nothing_is_complained_about(
    opened: Open, reports: Mapping[str, Path], name: str
) -> None:
    made, log = opened(name)
    made.locator("summary").first.click() if name != "one" else None
    assert log.requests == [reports[name].as_uri()]
    assert log.complaints == []


def test_light_and_dark_differ_and_plots_follow_the_theme(opened: Open) -> None:
    shots, inks = [], []
    for theme in ("light", "dark"):
        made, _ = opened("one", theme=theme)
        shots.append(made.screenshot())
        inks.append(made.locator(".plot text").first.evaluate("it => getComputedStyle(it).fill"))
        _save(made, f"report-{theme}")
    assert shots[0] != shots[1]
    assert inks[0] != inks[1]


@pytest.mark.parametrize("name", ["one", "all", "sweep"])
def test_on_a_telephone_nothing_has_to_be_scrolled_sideways_but_tables_and_plots(opened: Open, name: str) -> None:
    made, _ = opened(name, size=PHONE)
    made.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert made.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = made.evaluate(
        "[...document.querySelectorAll('body *')].filter(it => !it.closest('.scroll, .plot') && "
        "it.getBoundingClientRect().right > innerWidth + 0.5).map(it => it.outerHTML.slice(0, 80))"
    )
    assert wide == []
    _save(made, f"report-{name}-phone")


@pytest.mark.parametrize("name", ["one", "sweep"])
def test_the_marks_of_a_plot_lie_inside_its_box_at_every_width(opened: Open, name: str) -> None:
    for size in (PHONE, WIDE):
        made, _ = opened(name, size=size)
        outside = made.evaluate(
            "[...document.querySelectorAll('.plot > svg')].flatMap(box => { const r = box.getBoundingClientRect();"
            "return [...box.querySelectorAll('use')].filter(it => { "
            "const m = it.getBoundingClientRect(); return m.right < r.left - 8 || m.left > r.right + 8 || "
            "m.bottom < r.top - 8 || m.top > r.bottom + 8 }).map(it => it.outerHTML.slice(0, 80)) })"
        )
        assert outside == []


@pytest.mark.parametrize("name", ["one", "sweep"])
def test_the_words_of_a_plot_can_be_read_on_a_telephone(opened: Open, name: str) -> None:
    made, _ = opened(name, size=PHONE)
    sizes = made.evaluate(
        "[...document.querySelectorAll('.plot text')].filter(it => it.checkVisibility() && it.textContent.trim())"
        ".map(it => Math.min(it.getBoundingClientRect().height, it.getBoundingClientRect().width * 3))"
    )
    assert sizes
    assert min(sizes) >= 7


def test_on_paper_all_is_open_on_several_pages(opened: Open) -> None:
    one = opened("one")[0].pdf(prefer_css_page_size=True)
    whole = opened("all")[0]
    whole.emulate_media(media="print")
    shown = whole.locator("details dl").first.evaluate("it => it.checkVisibility()")
    printed = [len(re.findall(rb"/Type\s*/Page\b", pdf)) for pdf in (one, whole.pdf(prefer_css_page_size=True))]
    assert shown
    assert printed[0] >= 2
    assert printed[1] > printed[0]


def test_links_of_the_table_lead_to_their_study(opened: Open) -> None:
    made, _ = opened("all")
    made.get_by_role("link", name="se_ratio", exact=True).first.click()
    top = made.locator("article#se_ratio").evaluate("it => it.getBoundingClientRect().top")
    assert abs(top) < 5


# A search


def test_the_words_of_a_search_are_inside_their_plots(opened: Open) -> None:
    made, _ = opened("sweep", size=PHONE)
    cut = made.evaluate(
        "[...document.querySelectorAll('svg text')].filter(it => { const r = it.getBoundingClientRect();"
        "const box = it.closest('svg').getBoundingClientRect();"
        "return r.left < box.left - 2 || r.right > box.right + 2 }).map(it => it.textContent)"
    )
    assert cut == []


def test_terms_stand_above_their_words_on_a_telephone_and_beside_them_elsewhere(opened: Open) -> None:
    """However long they are: the name of a dimension is a term."""
    widest, shifts = {}, {}
    for size in (PHONE, WIDE):
        made, _ = opened("sweep", size=size)
        made.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        places = made.evaluate(
            "[...document.querySelectorAll('dt')].map(it => [it, it.nextElementSibling].map("
            "each => each.getBoundingClientRect())).map(([dt, dd]) => [dt.width, dd.left - dt.left])"
        )
        widest[size["width"]] = max(width for width, _ in places)
        shifts[size["width"]] = [shift for _, shift in places]
    assert max(shifts[PHONE["width"]]) == 0 < min(shifts[WIDE["width"]])
    assert widest[WIDE["width"]] <= 18 * 16


def test_what_a_user_named_is_text_and_is_never_run(opened: Open) -> None:
    made, _ = opened("sweep")
    made.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert made.evaluate("document.scripts.length") == 0
    assert made.title() == f"{NASTY} · sweep"
    assert made.locator("h1").inner_text() == NASTY
    shown = made.locator("main").inner_text()
    assert all(words in shown for words in (f"Best of {NASTY}", f"space {NASTY},", f"failed: {NASTY}", f"{NASTY}nnn"))


def test_on_paper_a_search_hides_nothing(opened: Open) -> None:
    made, _ = opened("sweep")
    made.emulate_media(media="print")
    assert made.locator("details table").evaluate("it => it.checkVisibility()")
    assert made.locator("details pre").evaluate("it => it.checkVisibility()")

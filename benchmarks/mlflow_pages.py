"""Measure MLflow's pages of a large study in a headless browser: seconds until each shows what was asked for.

    MLFLOW_TRACKING_URI=postgresql+psycopg://… python benchmarks/mlflow_pages.py many

The server is started as `cifar-lab ui` starts it, with one worker. Each page is opened from an empty one, `--rounds`
times in turn, and the table has the medians. `--pictures FOLDER` keeps a picture of each page as it was measured. It
needs playwright and a Chromium, as `tests/browser` does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markdown_table import table

from cifar_lab.mlflow_sync import server, ui_view
from cifar_lab.mlflow_sync.client import MLflowStore

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PORT = 54381
PATIENCE = 180_000.0
"""Milliseconds after which a page counts as broken."""
ROW = ".ag-center-cols-container .ag-row"
NAMES = ".ag-pinned-left-cols-container .ag-row [col-id*='Run Name']"
CHART, CURVE = ".js-plotly-plot .point path", ".js-plotly-plot .trace"
TYPE = "workflowType=machine_learning"


class Pages:
    """MLflow's pages of one ablation, in one tab."""

    def __init__(self, tab: Any, address: str, store: MLflowStore, ablation: str, pictures: Path | None) -> None:
        self._tab, self._pictures = tab, pictures
        shown = {entry.name: entry for entry in store.shown()}[ablation]
        every = store.find_all(ablation, role="cell")
        self.cells = len(every)
        some = every[len(every) // 2]
        self.variant, self.seed = some.tags["variant"], some.tags["seed"]
        self._run = f"{address}/#/experiments/{shown.experiment}/runs/{some.id}"
        self._list = f"{address}/#/experiments/{shown.experiment}/runs?{TYPE}"
        self._view = ui_view.link(address, shown.experiment, shown.key)
        self._charts = ui_view.link(address, shown.experiment, shown.key, charts=True)

    def measures(self) -> dict[str, Callable[[], float]]:
        """Return what is measured, by its name in the table."""
        return {
            "the table that `cifar-lab ui` links": lambda: self._open("view", self._view, ROW),
            "the charts that `cifar-lab ui` links": lambda: self._open("charts", self._charts, CHART),
            "MLflow's own list of the experiment": lambda: self._open("list", self._list, ROW),
            "the cells below their invocation, in that list": self._children,
            "the next 100 runs in the table": self._more,
            "one cell by `params.variant` and `params.seed`": lambda: self._search("param", "params"),
            "one cell by `tags.variant` and `tags.seed`": lambda: self._search("tag", "tags"),
            "one run": lambda: self._open("run", f"{self._run}?{TYPE}", "text=Duration"),
            "the charts of one run": lambda: self._open("run-charts", f"{self._run}/model-metrics?{TYPE}", CURVE),
        }

    def _open(self, name: str, address: str, awaited: str) -> float:
        """Return the seconds until an address shows what matches `awaited`."""
        if self._tab.url != "about:blank":
            self._tab.evaluate("localStorage.clear(); sessionStorage.clear()")  # they keep which rows are unfolded
        self._tab.goto("about:blank")  # else only the part behind # changes, and the page keeps its state
        began = time.perf_counter()
        self._tab.goto(address)
        self._tab.locator(awaited).first.wait_for()
        took = time.perf_counter() - began
        self._keep(name)
        return took

    def _children(self) -> float:
        self._open("list", self._list, ROW)
        began = time.perf_counter()
        self._tab.locator(NAMES).first.locator("button").first.click()
        self._tab.locator(NAMES).nth(1).wait_for()
        took = time.perf_counter() - began
        self._keep("children")
        return took

    def _more(self) -> float:
        """Return the seconds for the next page of runs; not a number if all are there."""
        self._open("view", self._view, ROW)
        if self.cells <= ui_view.PAGE:
            return float("nan")
        self._tab.locator(".ag-body-viewport").first.evaluate("it => it.scrollTo(0, it.scrollHeight)")
        button = self._tab.get_by_role("button", name="Load more")
        button.wait_for()
        began = time.perf_counter()
        button.click()
        self._tab.locator("text=200 matching runs").wait_for()
        return time.perf_counter() - began

    def _search(self, name: str, kind: str) -> float:
        """Return the seconds until the one run of a variant and a seed, and the invocation above it, are there."""
        self._open("list", self._list, ROW)
        box = self._tab.get_by_placeholder("metrics.rmse")
        box.fill(f"{kind}.variant = '{self.variant}' and {kind}.seed = '{self.seed}'")
        began = time.perf_counter()
        box.press("Enter")
        self._tab.locator("text=/^2 matching runs/").wait_for()
        took = time.perf_counter() - began
        self._keep(f"search-{name}")
        return took

    def _keep(self, name: str) -> None:
        if self._pictures is not None:
            self._tab.wait_for_timeout(500)
            self._tab.screenshot(path=str(self._pictures / f"{name}-{self.cells}.png"))


def measured(pages: Pages, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each measure, one a round."""
    seconds: dict[str, list[float]] = {name: [] for name in pages.measures()}
    for _ in range(rounds):
        for name, measure in pages.measures().items():
            seconds[name].append(measure())
            print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ablation", help="Name of an ablation that was uploaded.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=Path, help="Folder for a picture of each page.")
    given = parser.parse_args()
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if uri is None or path is None:
        parser.error("MLFLOW_TRACKING_URI is not set" if uri is None else f"no browser: none of {', '.join(BROWSERS)}")
    if given.pictures is not None:
        given.pictures.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with server.serve(uri, PORT) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1500, "height": 830})
        tab.set_default_timeout(PATIENCE)
        pages = Pages(tab, served.address, MLflowStore.open(uri), given.ablation, given.pictures)
        seconds = measured(pages, given.rounds)
        browser.close()
    rows = [[name, *(f"{each:.1f}" for each in (statistics.median(some), max(some)))] for name, some in seconds.items()]
    for line in table([f"page, {pages.cells:,} cells", "median s", "longest s"], rows):
        print(line)


if __name__ == "__main__":
    main()

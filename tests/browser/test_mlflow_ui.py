"""Links of `cifar-lab ui` in a browser: the best variant, its mean and its delta are visible without unfolding."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

import pytest

from cifar_lab.mlflow_sync.client import MLflowStore

pytestmark = pytest.mark.browser

Accuracy = Mapping[str, tuple[float, ...]]
"""Accuracies by variant, one per seed."""

GRID = ".ag-center-cols-container .ag-row"
NAMES = ".ag-pinned-left-cols-container .ag-row"


def _open(page: Any, address: str, waited_for: str) -> None:
    page.goto("about:blank")  # else only the part behind # changes, and the page keeps its state
    page.goto(address)
    page.locator(waited_for).first.wait_for()
    assistant = page.locator("button[aria-label='Close']")
    if assistant.count():
        assistant.first.click()
        assistant.first.wait_for(state="hidden")


def _names(page: Any) -> list[str]:
    """Return the names of the table's rows, from top to bottom."""
    rows = page.locator(NAMES).all()
    named = {int(row.get_attribute("row-index")): row.locator("[col-id*='Run Name']").inner_text() for row in rows}
    return [" ".join(re.sub(r"^#\w+", "", named[index].strip()).split()) for index in sorted(named)]  # its colour


def _numbers(page: Any, column: str) -> list[float]:
    """Return the numbers in a column, from top to bottom."""
    rows = page.locator(GRID).all()
    texts = {int(row.get_attribute("row-index")): _cell(row, column).inner_text() for row in rows}
    return [float(re.split(r"[\s…(]", texts[index])[0]) for index in sorted(texts)]


def _cell(row: Any, column: str) -> Any:
    return row.locator(f'[col-id="{column}"]')


def test_the_table_has_a_row_a_variant_with_its_mean_and_delta_the_best_first(
    page: Any, links: dict[str, str], accuracy: Accuracy, picture: Callable[[str], None]
) -> None:
    _open(page, links["table"], GRID)
    means = {variant: mean(values) for variant, values in accuracy.items()}
    best_first = sorted(means, key=lambda variant: -means[variant])
    assert best_first[0] == "r4", "the best mean is not that of the best cell"
    assert _names(page) == [f"Group: {variant} 2" for variant in best_first]
    assert _numbers(page, "metrics.`test/acc`") == pytest.approx([means[variant] for variant in best_first])
    deltas = [means[variant] - means["r16"] for variant in best_first]
    assert _numbers(page, "metrics.`delta/test/acc`") == pytest.approx(deltas)
    assert _numbers(page, "params.`parameters`") == [4_699_162, 4_700_162, 4_701_162]
    picture("mlflow-table")


def test_no_name_of_a_group_is_cut(page: Any, links: dict[str, str], accuracy: Accuracy) -> None:
    _open(page, links["table"], GRID)
    for variant in accuracy:
        name = page.locator(f"{NAMES} span[title='{variant}']")
        assert name.inner_text() == f"Group: {variant}"
        assert name.evaluate("it => it.scrollWidth <= it.clientWidth || it.clientWidth == 0")


def test_a_row_unfolds_into_its_seeds(page: Any, links: dict[str, str]) -> None:
    _open(page, links["table"], GRID)
    page.locator(NAMES).first.locator("[role=button]").first.click()
    page.get_by_role("link", name="r4/s1").wait_for()
    assert _names(page)[:3] == ["Group: r4 2", "r4/s1", "r4/s0"]
    assert _numbers(page, "metrics.`delta/test/acc`")[1:3] == pytest.approx([0.04, 0.04])


def test_the_charts_are_drawn_by_variant(
    page: Any, links: dict[str, str], accuracy: Accuracy, picture: Callable[[str], None]
) -> None:
    _open(page, links["charts"], ".js-plotly-plot .point path")
    for section in ("Which variant is best", "How it got there", "At what cost"):
        page.get_by_text(section).wait_for()
    bars = page.locator(".js-plotly-plot").first.locator(".trace.bars .point")
    assert bars.count() == len(accuracy)
    assert [text.text_content() for text in bars.locator("text").all()] == ["-0.01", "0.00", "0.04"]
    picture("mlflow-charts")
    page.mouse.move(1000, 600)
    page.mouse.wheel(0, 430)  # what is not seen is not drawn
    curve = page.locator(".js-plotly-plot", has=page.locator(".trace.scatter .js-line")).first
    curve.wait_for()
    ends = curve.evaluate("plot => plot.data.filter(line => line.y.length == 5).map(line => line.y.at(-1))")
    assert sorted({round(end, 6) for end in ends}) == sorted(mean(values) for values in accuracy.values())


def test_the_note_of_an_invocation_has_its_table_and_leads_to_its_cells(
    page: Any, links: dict[str, str], shipped: Any
) -> None:
    store = MLflowStore.open(f"sqlite:///{shipped / 'mlflow.db'}")
    (parent,) = store.find_all("se_ratio", role="invocation")
    server, experiment = links["table"].split("/#")[0], store.shown()[0].experiment
    _open(page, f"{server}/#/experiments/{experiment}/runs/{parent.id}?workflowType=machine_learning", "table")
    rows = page.locator("table", has_text="verdict").locator("tbody tr")
    cells = [row.locator("td").all_inner_texts()[:5] for row in rows.all()]
    assert [[cell.strip() for cell in row] for row in cells] == [
        ["none", "2", "80.00", "14.14", "-1.00"],
        ["r16", "2", "81.00", "1.41", ""],
        ["r4", "2", "85.00", "1.41", "+4.00"],
    ]
    page.get_by_text("Show more").first.click()
    with page.context.expect_page() as opened:
        page.locator("li", has_text="r4:").get_by_role("link", name="s1").click()
    opened.value.get_by_role("heading", name="r4/s1").wait_for()
    opened.value.close()


def test_the_report_of_an_invocation_opens_in_the_ui(
    page: Any, links: dict[str, str], shipped: Any, picture: Callable[[str], None]
) -> None:
    store = MLflowStore.open(f"sqlite:///{shipped / 'mlflow.db'}")
    (parent,) = store.find_all("se_ratio", role="invocation")
    server, experiment = links["table"].split("/#")[0], store.shown()[0].experiment
    _open(page, f"{server}/#/experiments/{experiment}/runs/{parent.id}/artifacts/report.html", "iframe")
    inside = page.frame_locator("iframe").first
    inside.get_by_role("heading", name="Which reduction ratio").first.wait_for()
    assert inside.locator("svg").count() > 0
    picture("mlflow-report")


def test_the_table_is_kept_with_the_invocation(shipped: Any) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{shipped / 'mlflow.db'}")
    (parent,) = client.search_runs([client.get_experiment_by_name("se_ratio").experiment_id], "tags.role='invocation'")
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {
        "comparison.csv", "comparison.md", "report.html",
    }  # fmt: skip

"""The view of an ablation: what the browser test cannot see of its undocumented format."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from cifar_lab.mlflow_sync.ui_view import LONGEST, UIView, latest, link


def _view(**fields: Any) -> UIView:
    told = {"setting": "1a2b", "name": "small · CIFAR-10", "variants": ("r4", "r16"), "metric": "test/acc"}
    return UIView(**{**told, "cells": 4, "began": 1, "time": 2, **fields})


def _state(view: UIView) -> Any:
    kind, _, packed = json.loads(view.value())["state"].partition(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_it_shows_the_cells_of_its_setting_by_variant_the_best_first() -> None:
    state = _state(_view())
    assert state["searchFilter"] == "tags.role = 'cell' and tags.`cifar_lab.setting.1a2b` = 'current'"
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "variant"}]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test/acc`", False)
    assert state["groupsExpanded"] == {"tag.variant.r4": False, "tag.variant.r16": False}


def test_cells_that_the_ui_does_not_load_at_once_are_not_averaged() -> None:
    """The UI averages what it has loaded: the best hundred."""
    assert _state(_view(cells=100))["useGroupedValuesInCharts"]
    more = _view(cells=101)
    state = _state(more)
    assert state["groupBy"] is None
    assert not state["useGroupedValuesInCharts"]
    assert json.loads(more.value())["name"] == "small · CIFAR-10 · the best single cells, no means"


def test_every_width_is_of_a_column_that_has_a_place() -> None:
    state = _state(_view())
    assert set(state["columnWidths"]) == set(state["columnOrder"])
    assert len(set(state["columnOrder"])) == len(state["columnOrder"])


def test_every_chart_is_in_a_section() -> None:
    state = _state(_view(metric="test/peak_acc"))
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
    metrics = [chart.get("metricKey") for chart in state["compareRunCharts"]]
    assert {"delta/test/peak_acc", "test/peak_acc", "test/acc", "train/loss", "lr"} <= set(metrics)


def test_it_fits_into_a_tag_however_many_variants_there_are() -> None:
    many = tuple(f"{hash(('variant', i))}-of-many" for i in range(500))
    assert len(_view(variants=many).value()) <= LONGEST


def test_the_view_that_was_asked_for_last_is_the_one_to_show() -> None:
    early, late = _view(setting="a", time=5), _view(setting="b", time=6)
    tags = {early.tag: early.value(), late.tag: late.value(), "mlflow.note.content": "{}"}
    assert latest(tags) == ("cifar-lab-b", 6)
    assert latest({**tags, "mlflow.sharedViewState.cifar-lab-c": "no JSON"}) == ("cifar-lab-b", 6)
    assert latest({"mlflow.sharedViewState.of-somebody-else": late.value()}) is None


def test_a_link_leads_to_the_table_or_to_the_charts() -> None:
    table = link("http://host:5000", "7", "cifar-lab-a")
    assert table.startswith("http://host:5000/#/experiments/7/runs?")
    assert "viewStateShareKey=cifar-lab-a" in table
    assert link("http://host:5000", "7", "cifar-lab-a", charts=True) == table + "&compareRunsMode=CHART"

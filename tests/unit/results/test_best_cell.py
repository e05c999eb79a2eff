"""The best cell: by val where all have it, else by test; the first of equal ones."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cifar_lab.results.best_cell import best_cell, selection_metric

HELD_OUT = {"a": {"val/acc": 0.5, "test/acc": 0.9}, "b": {"val/acc": 0.7, "test/acc": 0.1}}
ONE_WITHOUT = {**HELD_OUT, "c": {"test/acc": 0.95}}


@pytest.mark.parametrize(
    ("cells", "metric", "best"),
    [
        (HELD_OUT, "val/acc", "b"),
        (ONE_WITHOUT, "test/acc", "c"),
        ({"a": {"val/acc": 0.5}, "b": {"val/acc": 0.5}}, "val/acc", "a"),
        ({"a": {"val/acc": float("nan")}, "b": {"val/acc": 0.1}, "c": {"val/acc": float("nan")}}, "val/acc", "b"),
        ({"a": {}, "b": {"test/acc": 0.1}}, "test/acc", "b"),
    ],
)
def test_the_best_is_chosen_by_one_metric_of_all(
    cells: Mapping[str, Mapping[str, float]], metric: str, best: str
) -> None:
    assert selection_metric(list(cells), cells.__getitem__) == metric
    assert best_cell(list(cells), cells.__getitem__, metric) == best

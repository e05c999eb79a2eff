"""Going on from a finished cell: its recipe, its weights, its data, its seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import records

from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.execution.warm_start import further_training
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.record_files import DataSource

PARENT = "ab" * 32
RECIPE = Recipe().override({"model.width": 16, "train.epochs": 10})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    record = CellRecord(tmp_path / PARENT)
    records.begin(record, recipe=RECIPE, seed=3)
    records.end(record, epoch=10)
    data = DataSource(name="", kind="path", hash="", source="/images.zip")
    records.invocation(records.cell_ref(PARENT, seed=3), data=data).write(tmp_path)
    return tmp_path


def test_it_goes_on_with_recipe_weights_data_and_seed(runs: Path) -> None:
    found = further_training(runs, "abab", {"train.epochs": 3, "optim.lr": 0.01})
    assert found.recipe == RECIPE.override({"init_from": PARENT})
    assert (found.parent, found.source, found.seed) == (PARENT, "/images.zip", 3)


def test_another_network_is_refused_and_other_dropout_is_not(runs: Path) -> None:
    with pytest.raises(UsageError, match=r"model.width asks for another"):
        further_training(runs, "abab", {"model.width": 32, "train.epochs": 3})
    further_training(runs, "abab", {"model.dropout": 0.1})


def test_a_cell_that_is_not_finished_is_refused(runs: Path) -> None:
    (runs / PARENT / "result.json").unlink()
    with pytest.raises(UsageError, match="is missing, not finished"):
        further_training(runs, "abab", {})


def test_where_no_invocation_knows_the_data_it_must_be_named(runs: Path) -> None:
    next((runs / "invocations").iterdir()).unlink()
    with pytest.raises(TrackingError, match="name it by --data"):
        further_training(runs, "abab", {})

"""Weights of a finished cell whose network's source was edited since."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made import records
from safetensors.torch import save_file

from cifar_lab import extension
from cifar_lab.api import load_cell
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError
from cifar_lab.execution.warm_start import further_training
from cifar_lab.models.registry import build_network
from cifar_lab.store.cell_record import CellRecord

NET = """
from torch import nn

def net(*, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.ReLU(), nn.Linear(4, classes))
"""
METRIC = "def share():\n    return lambda logits, labels: 0.0\n"
EDITED = NET.replace("nn.ReLU", "nn.Tanh")


def forget() -> None:
    """Forget the module and its hash, as another process would not know them."""
    for name in ("edited_net", "edited_metric"):
        sys.modules.pop(name, None)
    extension.describe_version.cache_clear()
    extension.imported_source.cache_clear()


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CellRecord]:
    """A finished cell of a network that a file in this folder has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_net.py").write_text(NET)
    (tmp_path / "edited_metric.py").write_text(METRIC)
    forget()
    recipe = Recipe().override({"model.name": "edited_net:net", "train.metrics": [{"name": "edited_metric:share"}]})
    made = CellRecord(tmp_path / "runs" / recipe.fingerprint(seed=0, data_hash=records.SYNTHETIC.hash))
    records.begin(made, recipe=recipe, classes=tuple("abcdefghij"))
    save_file(build_network(recipe.model, seed=0).state_dict(), made.weights)
    records.end(made)
    yield made
    forget()


def edit(record: CellRecord, text: str = EDITED) -> None:
    (record.folder.parents[1] / "edited_net.py").write_text(text)
    forget()


def test_the_network_of_unchanged_code_is_loaded_without_a_word(
    record: CellRecord, caplog: pytest.LogCaptureFixture
) -> None:
    load_cell(record.fingerprint, runs=record.folder.parent).network()
    assert not caplog.records


def test_that_its_code_changed_is_said_as_its_weights_are_loaded(
    record: CellRecord, caplog: pytest.LogCaptureFixture
) -> None:
    edit(record)
    with caplog.at_level(logging.WARNING):
        load_cell(record.fingerprint, runs=record.folder.parent).network()
    (said,) = caplog.messages
    assert f"{record.fingerprint[:12]}: edited_metric:share, edited_net:net changed since it was trained" in said


def test_a_training_does_not_go_on_from_a_network_that_changed(record: CellRecord) -> None:
    edit(record)
    with pytest.raises(UsageError, match=r"--from .*: its weights .*, and .*edited_net:net changed since then"):
        further_training(record.folder.parent, record.fingerprint[:12], {})


def test_the_network_is_loaded_where_other_code_of_the_recipe_is_gone(
    record: CellRecord, caplog: pytest.LogCaptureFixture
) -> None:
    (record.folder.parents[1] / "edited_metric.py").unlink()
    forget()
    with caplog.at_level(logging.WARNING):
        load_cell(record.fingerprint, runs=record.folder.parent).network()
    (said,) = caplog.messages
    assert "No module named 'edited_metric'; whether its network changed is not known" in said

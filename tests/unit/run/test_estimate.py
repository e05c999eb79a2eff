"""Estimates go by what was measured in the precision that a cell is trained in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifar_lab import registry, scale
from cifar_lab.data.dataset import Dataset
from cifar_lab.models.budget import cost
from cifar_lab.recipe import Recipe
from cifar_lab.run import estimate as module
from cifar_lab.run.estimate import START_SECONDS, estimate, measure
from cifar_lab.run.execution import Execution
from cifar_lab.run.plan import Plan, make_plan

CPU = Execution(device="cpu", threads=1, precision="auto")


def plan(name: str, runs: Path) -> Plan:
    labels, black = np.tile(np.arange(10), 2), np.zeros((20, 32, 32, 3), np.uint8)
    images = Dataset(
        name="black", kind="path", classes=tuple("abcdefghij"), hash="d" * 64,
        train_images=black, train_labels=labels, test_images=black, test_labels=labels,
    )  # fmt: skip
    small = scale.find("small")
    return make_plan(registry.discover().find(name), scale=small, source="black", dataset=images, runs=runs, seeds=(0,))


def test_each_precision_is_timed_and_counts_for_its_own_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plan("precision", tmp_path)
    macs = cost(asked.cells[0].recipe.model).macs

    def timed(recipe: Recipe, execution: Execution) -> float:
        return {"fp32": 4.0, "bf16": 1.0}[recipe.train.precision] * macs

    monkeypatch.setattr(module, "seconds_per_image", timed)
    pace = measure(asked, CPU)
    assert pace == {"fp32": 4.0, "bf16": 1.0}
    found = [estimate(asked, pace)[cell.fingerprint] - START_SECONDS for cell in asked.cells]
    assert found[0] == pytest.approx(4 * found[1])
    assert found[1] > 0


def test_one_network_is_timed_where_all_cells_have_one_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int] = []

    def seconds(recipe: Recipe, execution: Execution) -> float:
        timed.append(cost(recipe.model).macs)
        return 1.0

    monkeypatch.setattr(module, "seconds_per_image", seconds)
    asked = plan("width", tmp_path)
    assert list(measure(asked, CPU)) == ["auto"]
    every = sorted(cost(cell.recipe.model).macs for cell in asked.cells)
    assert timed == [every[len(every) // 2]]


def test_a_precision_that_was_not_timed_is_taken_for_the_slowest_that_was(tmp_path: Path) -> None:
    asked = plan("precision", tmp_path)
    known = estimate(asked, {"auto": 1.0, "fp32": 4.0})
    assert known == estimate(asked, {"fp32": 4.0, "bf16": 4.0})
    assert set(estimate(asked, {}).values()) == {START_SECONDS}


def test_cells_that_are_done_are_neither_timed_nor_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plan("precision", tmp_path)
    half = replace(asked, cells=(replace(asked.cells[0], state="finished"), *asked.cells[1:]))
    monkeypatch.setattr(module, "seconds_per_image", lambda recipe, execution: 1.0)
    assert list(measure(half, CPU)) == ["bf16"]
    assert list(estimate(half, {"bf16": 1.0})) == [asked.cells[1].fingerprint]

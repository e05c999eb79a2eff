"""Compiling is decided from what was measured: it is on where it saves more than it costs, and all cells are alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_lab import registry, scale
from cifar_lab.cli.asked import Request
from cifar_lab.cli.train import _set_aside
from cifar_lab.data.dataset import Dataset
from cifar_lab.recipe import Recipe
from cifar_lab.run import compiling
from cifar_lab.run.estimate import Timed, time_steps
from cifar_lab.run.execution import Execution
from cifar_lab.run.plan import Plan, make_plan
from cifar_lab.tracking.record import Record

CPU = Execution(device="cpu", threads=1, precision="fp32")
HOUR = 3600.0


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def plan(runs: Path, seconds: float) -> Plan:
    """Two variants whose cells take so long each."""
    labels, black = np.tile(np.arange(10), 2), np.zeros((20, 32, 32, 3), np.uint8)
    images = Dataset(
        name="black", kind="path", classes=tuple("abcdefghij"), hash="d" * 64,
        train_images=black, train_labels=labels, test_images=black, test_labels=labels,
    )  # fmt: skip
    made = make_plan(
        registry.discover().find("se_ratio"), scale=scale.find("small"), source="black", dataset=images, runs=runs,
        variants=["r16", "none"], seeds=(0,),
    )  # fmt: skip
    return replace(made, estimates={cell.fingerprint: seconds for cell in made.cells})


def measuring(plain: float, compiled: Timed | Exception) -> Any:
    def measure(recipe: Recipe, execution: Execution) -> Timed:
        if not execution.compile:
            return Timed(first=2 * plain, step=plain)
        if isinstance(compiled, Exception):
            raise compiled
        return compiled

    return measure


@pytest.mark.parametrize(
    ("seconds", "compiled", "is_on"),
    [
        (HOUR, Timed(first=40.0, step=0.08), True),
        (HOUR, Timed(first=40.0, step=0.096), False),  # 4 % is within what is measured by chance
        (HOUR, Timed(first=40.0, step=0.11), False),
        (HOUR, Timed(first=1000.0, step=0.08), False),  # 720 s saved, 1000 s lost
        (10 * HOUR, Timed(first=1000.0, step=0.08), True),
    ],
)
def test_it_is_on_where_it_saves_more_than_it_costs(runs: Path, seconds: float, compiled: Timed, is_on: bool) -> None:
    found = compiling.decide(plan(runs, seconds), CPU, runs, measuring(0.1, compiled))
    assert found.is_on is is_on
    for number in ("100.0 ms", f"{1000 * compiled.step:.1f} ms", f"{compiled.first - compiled.step:.0f} s"):
        assert number in found.why


def test_a_short_cell_is_not_even_tried(runs: Path) -> None:
    found = compiling.decide(plan(runs, 60.0), CPU, runs, measuring(0.1, AssertionError("it was tried")))
    assert found == (False, "the longest cell takes about 60 s: not worth the trial")


def test_a_machine_that_cannot_compile_says_so_and_trains(runs: Path) -> None:
    error = RuntimeError("InvalidCxxCompiler: no working C++ compiler\nset TORCH_LOGS")
    found = compiling.decide(plan(runs, HOUR), CPU, runs, measuring(0.1, error))
    assert not found.is_on
    assert found.why.endswith("RuntimeError: InvalidCxxCompiler: no working C++ compiler")


@pytest.mark.parametrize("compiled", [True, False])
def test_cells_that_are_there_decide_for_those_that_are_not(runs: Path, compiled: bool) -> None:
    asked = plan(runs, HOUR)
    (record := Record(runs / asked.cells[0].fingerprint)).folder.mkdir(parents=True)
    record.write_cell({"execution": replace(CPU, compile=compiled).as_dict()})
    never = measuring(0.1, AssertionError("it was tried"))
    assert compiling.decide(asked, CPU, runs, never) == (compiled, "as the cells that are there")
    elsewhere = compiling.decide(asked, replace(CPU, threads=2), runs, measuring(0.1, Timed(40.0, 0.05)))
    assert elsewhere.is_on, "with other threads their numbers are others anyway"


@pytest.mark.parametrize("compiled", [True, False])
def test_a_cell_that_is_redone_is_compiled_as_it_was(runs: Path, compiled: bool) -> None:
    asked = plan(runs, HOUR)
    (record := Record(runs / asked.cells[0].fingerprint)).folder.mkdir(parents=True)
    record.write_cell({"execution": replace(CPU, compile=compiled).as_dict()})
    found = Request(asked, CPU, workers=1, seconds_per_mac=0.0)
    redone = _set_aside(found, runs, [record.fingerprint], True, as_before=True)
    assert (redone.execution.compile, redone.compile) == (compiled, compiled), "and nothing is left to decide"


def test_steps_are_timed_with_the_threads_that_they_will_have() -> None:
    import torch

    threads = torch.get_num_threads()
    recipe = Recipe().override({"model.blocks": (1,), "model.width": 8})
    found = time_steps(recipe, CPU, batch=4)
    assert 0 < found.step <= max(found)
    assert torch.get_num_threads() == threads

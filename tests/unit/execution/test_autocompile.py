"""Compiling is decided from what was measured: it is on where it saves more than it costs, and all cells are alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import records

from cifar_lab.ablation import registry
from cifar_lab.cli.training import _set_aside
from cifar_lab.config import scale
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.dataset import Dataset
from cifar_lab.execution import autocompile
from cifar_lab.execution.estimate import TrainingSpeed
from cifar_lab.execution.plan import Plan, make_plan
from cifar_lab.execution.request import Request
from cifar_lab.execution.step_timing import StepTiming, TimingError, time_steps
from cifar_lab.models.cost import network_cost
from cifar_lab.store.cell_record import CellRecord

CPU = Execution(device="cpu", threads=1, precision="fp32")
HOUR = 3600.0


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def plan(runs: Path, seconds: float, **overrides: Any) -> Plan:
    """Two variants whose cells take so long each."""
    labels, black = np.tile(np.arange(10), 2), np.zeros((20, 32, 32, 3), np.uint8)
    images = Dataset(
        name="black", kind="path", classes=tuple("abcdefghij"), hash="d" * 64,
        train_images=black, train_labels=labels, test_images=black, test_labels=labels,
    )  # fmt: skip
    made = make_plan(
        registry.discover().find("se_ratio"), scale=scale.find_scale("small"), source="black", dataset=images,
        runs=runs,
        variants=["r16", "none"], seeds=(0,), overrides=overrides,
    )  # fmt: skip
    return replace(made, estimates={cell.fingerprint: seconds for cell in made.cells})


def measuring(plain: float, compiled: StepTiming | Exception) -> Any:
    def measure(recipe: Recipe, execution: Execution) -> StepTiming:
        if not execution.compile:
            return StepTiming(first=2 * plain, step=plain)
        if isinstance(compiled, Exception):
            raise compiled
        return compiled

    return measure


@pytest.mark.parametrize(
    ("epochs", "compiled", "is_on"),
    [  # two cells of 20 images, 3 batches of 8 an epoch, the last one smaller
        (1000, StepTiming(first=40.0, step=0.08), False),  # 6,000 steps save 120 s, and compiling takes 160 s
        (1400, StepTiming(first=40.0, step=0.08), True),
        (1400, StepTiming(first=80.0, step=0.08), False),
        (100_000, StepTiming(first=40.0, step=0.096), False),  # 4 % is within what is measured by chance
        (100_000, StepTiming(first=40.0, step=0.11), False),
    ],
)
def test_it_is_on_where_it_saves_more_than_it_costs(
    runs: Path, epochs: int, compiled: StepTiming, is_on: bool
) -> None:  # fmt: skip
    asked = plan(runs, HOUR, **{"train.epochs": epochs, "train.batch_size": 8, "data.val_fraction": 0.1})
    found = autocompile.decide_compile(asked, CPU, runs, measuring(0.1, compiled))
    assert found.is_on is is_on
    for number in ("100.0 ms", f"{1000 * compiled.step:.1f} ms", f"{compiled.first - compiled.step:.0f} s"):
        assert number in found.why


def test_the_note_says_what_it_was_decided_from(runs: Path) -> None:
    asked = plan(runs, HOUR, **{"train.epochs": 1400, "train.batch_size": 8, "data.val_fraction": 0.1})
    a, b = (network_cost(cell.recipe.model).macs for cell in asked.cells)
    steps = 1400 * 3 * (1 + b / a)
    found = autocompile.decide_compile(asked, CPU, runs, measuring(0.1, StepTiming(first=40.0, step=0.08)))
    assert found.why == (
        f"r16/s0: 100.0 ms a step, compiled 80.0 ms after 40 s; {steps:,.0f} such steps are left, which save "
        f"{0.02 * steps:,.0f} s, and compiling takes 160 s"
    )


def test_equal_batches_are_compiled_once(runs: Path) -> None:
    asked = plan(runs, HOUR, **{"train.epochs": 2000, "train.batch_size": 9, "data.val_fraction": 0.1})
    found = autocompile.decide_compile(asked, CPU, runs, measuring(0.1, StepTiming(first=40.0, step=0.08)))
    assert found.why.endswith("and compiling takes 80 s")


@pytest.mark.parametrize("seconds", [60.0, 500.0])
def test_what_is_over_soon_is_not_even_tried(runs: Path, seconds: float) -> None:
    found = autocompile.decide_compile(plan(runs, seconds), CPU, runs, measuring(0.1, AssertionError("it was tried")))
    assert found == (
        False,
        f"the cells take about {2 * seconds:,.0f} s, the longest {seconds:.0f}: not worth the trial",
    )


def test_many_cells_are_worth_a_trial_that_one_is_not(runs: Path) -> None:
    found = autocompile.decide_compile(plan(runs, 700.0), CPU, runs, measuring(0.1, StepTiming(first=40.0, step=0.05)))
    assert "such steps are left" in found.why


def test_a_machine_that_cannot_compile_says_so_and_trains(runs: Path) -> None:
    error = RuntimeError("InvalidCxxCompiler: no working C++ compiler\nset TORCH_LOGS")
    found = autocompile.decide_compile(plan(runs, HOUR), CPU, runs, measuring(0.1, error))
    assert not found.is_on
    assert found.why.endswith("RuntimeError: InvalidCxxCompiler: no working C++ compiler")


@pytest.mark.parametrize(("gains", "is_on"), [({"fp32": 0.5, "bf16": 0.5}, True), ({"fp32": 0.5, "bf16": 1.3}, False)])
def test_it_has_to_pay_in_each_precision_that_is_asked_for(runs: Path, gains: dict[str, float], is_on: bool) -> None:
    asked = plan(runs, HOUR, **{"train.epochs": 10_000})
    cells = [
        replace(cell, recipe=cell.recipe.override({"train.precision": precision}))
        for cell, precision in zip(asked.cells, gains, strict=True)
    ]

    def measure(recipe: Recipe, execution: Execution) -> StepTiming:
        step = 0.1 * (gains[recipe.train.precision] if execution.compile else 1.0)
        return StepTiming(first=1.0, step=step)

    assert autocompile.decide_compile(replace(asked, cells=tuple(cells)), CPU, runs, measure).is_on is is_on


@pytest.mark.parametrize("compiled", [True, False])
def test_cells_that_are_there_decide_for_those_that_are_not(runs: Path, compiled: bool) -> None:
    asked = plan(runs, HOUR, **{"train.epochs": 10_000})
    (record := CellRecord(runs / asked.cells[0].fingerprint)).folder.mkdir(parents=True)
    records.begin(record, execution=replace(CPU, compile=compiled))
    never = measuring(0.1, AssertionError("it was tried"))
    assert autocompile.decide_compile(asked, CPU, runs, never) == (compiled, "as the cells that are there")
    elsewhere = autocompile.decide_compile(asked, replace(CPU, threads=2), runs, measuring(0.1, StepTiming(40.0, 0.05)))
    assert elsewhere.is_on, "with other threads their numbers are others anyway"


@pytest.mark.parametrize("compiled", [True, False])
def test_a_cell_that_is_redone_is_compiled_as_it_was(runs: Path, compiled: bool) -> None:
    asked = plan(runs, HOUR)
    (record := CellRecord(runs / asked.cells[0].fingerprint)).folder.mkdir(parents=True)
    records.begin(record, execution=replace(CPU, compile=compiled))
    found = Request(asked, CPU, workers=1, pace=TrainingSpeed())
    redone = _set_aside(found, runs, [record.fingerprint], True, as_before=True)
    assert (redone.execution.compile, redone.compile) == (compiled, compiled), "and nothing is left to decide"


@pytest.mark.slow
def test_steps_are_timed_with_the_threads_that_they_will_have() -> None:
    import torch

    threads = torch.get_num_threads()
    recipe = Recipe().override({"model.blocks": (1,), "model.width": 8})
    found = time_steps(recipe, CPU, batch=4)
    assert found.step > 0
    assert torch.get_num_threads() == threads


def test_on_cuda_equal_networks_are_compiled_once_for_all_cells(runs: Path) -> None:
    asked = plan(runs, HOUR, **{"train.epochs": 2000, "train.batch_size": 8, "data.val_fraction": 0.1})
    seeds = [replace(cell, fingerprint=f"{seed}{cell.fingerprint[1:]}") for cell in asked.cells for seed in "abc"]
    several = replace(asked, cells=tuple(seeds), estimates={cell.fingerprint: HOUR for cell in seeds})
    measure = measuring(0.1, StepTiming(first=40.0, step=0.08))
    on_cpu, on_cuda = (
        autocompile.decide_compile(several, replace(CPU, device=device), runs, measure) for device in ("cpu", "cuda")
    )
    assert on_cpu.why.endswith("compiling takes 479 s"), "six cells, each for two sizes of batches"
    assert on_cuda.why.endswith("compiling takes 160 s"), "two networks, each for two sizes of batches"


def test_steps_that_cannot_be_timed_are_not_compiled(runs: Path) -> None:
    def measure(recipe: Recipe, execution: Execution) -> StepTiming:
        raise TimingError("OutOfMemoryError: CUDA out of memory")

    found = autocompile.decide_compile(plan(runs, HOUR), CPU, runs, measure)
    assert found == (False, "training steps could not be timed: OutOfMemoryError: CUDA out of memory")
    busy = measuring(0.1, TimingError("no answer within 600 s"))
    assert autocompile.decide_compile(plan(runs, HOUR), CPU, runs, busy).why.endswith(
        "compile it: no answer within 600 s"
    )

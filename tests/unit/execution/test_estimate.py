"""Estimates go by what was measured in the precision that a cell is trained in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_lab.ablation import registry
from cifar_lab.config import scale
from cifar_lab.config.execution import Execution
from cifar_lab.config.images import ImageShape
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.dataset import Dataset
from cifar_lab.execution import estimate as module
from cifar_lab.execution import step_timing
from cifar_lab.execution.estimate import (
    ASSUMED_FLOOR,
    START_SECONDS,
    TrainingSpeed,
    estimate,
    measure,
    share,
    trained_images,
)
from cifar_lab.execution.plan import Plan, make_plan
from cifar_lab.execution.step_timing import StepTiming, TimingError, TimingRequest
from cifar_lab.models.cost import network_cost

CPU = Execution(device="cpu", threads=1, precision="auto")


def plan(name: str, runs: Path) -> Plan:
    labels, black = np.tile(np.arange(10), 2), np.zeros((20, 32, 32, 3), np.uint8)
    images = Dataset(
        name="black", kind="path", classes=tuple("abcdefghij"), hash="d" * 64,
        train_images=black, train_labels=labels, test_images=black, test_labels=labels,
    )  # fmt: skip
    small = scale.find_scale("small")
    return make_plan(registry.discover().find(name), scale=small, source="black", dataset=images, runs=runs, seeds=(0,))


def test_each_precision_is_timed_and_counts_for_its_own_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plan("precision", tmp_path)
    macs = network_cost(asked.cells[0].recipe.model).macs

    def timed(recipe: Recipe, execution: Execution, images: ImageShape) -> float:
        return {"fp32": 4.0, "bf16": 1.0}[recipe.train.precision] * macs

    monkeypatch.setattr(module, "seconds_per_image", timed)
    pace = measure(asked, CPU)
    assert pace == TrainingSpeed(rates={"fp32": 4.0, "bf16": 1.0})
    found = [estimate(asked, pace)[cell.fingerprint] - START_SECONDS for cell in asked.cells]
    assert found[0] == pytest.approx(4 * found[1])
    assert found[1] > 0


def test_one_network_is_timed_where_all_cells_have_one_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int] = []

    def seconds(recipe: Recipe, execution: Execution, images: ImageShape) -> float:
        timed.append(network_cost(recipe.model).macs)
        return 1.0

    monkeypatch.setattr(module, "seconds_per_image", seconds)
    asked = plan("width", tmp_path)
    assert list(measure(asked, CPU).rates) == ["auto"]
    every = sorted(network_cost(cell.recipe.model).macs for cell in asked.cells)
    assert timed == [every[len(every) // 2]]


def test_a_precision_that_was_not_timed_is_taken_for_the_slowest_that_was(tmp_path: Path) -> None:
    asked = plan("precision", tmp_path)
    known = estimate(asked, TrainingSpeed(rates={"auto": 1.0, "fp32": 4.0}))
    assert known == estimate(asked, TrainingSpeed(rates={"fp32": 4.0, "bf16": 4.0}))
    assert set(estimate(asked, TrainingSpeed()).values()) == {START_SECONDS}


def test_cells_that_are_done_are_neither_timed_nor_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plan("precision", tmp_path)
    half = replace(asked, cells=(replace(asked.cells[0], state="finished"), *asked.cells[1:]))
    monkeypatch.setattr(module, "seconds_per_image", lambda recipe, execution, images: 1.0)
    assert list(measure(half, CPU).rates) == ["bf16"]
    assert list(estimate(half, TrainingSpeed(rates={"bf16": 1.0}))) == [asked.cells[1].fingerprint]


def test_a_second_pass_of_a_step_counts_twice_and_evaluation_once(tmp_path: Path) -> None:
    asked = plan("sam", tmp_path)
    cells = {cell.variant: cell for cell in asked.cells}
    seconds = {
        name: estimate(asked, TrainingSpeed(rates={"auto": 1e-9}))[cell.fingerprint] - START_SECONDS
        for name, cell in cells.items()
    }
    off = cells["off"]
    training = off.recipe.train.epochs * 18 * 1e-9 * off.cost.macs  # of 20 images, two are held out
    assert seconds["rho0.05"] == seconds["adaptive0.5"] == pytest.approx(seconds["off"] + training)


def test_the_statistics_of_averaged_weights_cost_one_more_forward_pass(tmp_path: Path) -> None:
    asked = plan("weight_averaging", tmp_path)
    known = estimate(asked, TrainingSpeed(rates={"auto": 1e-9}))
    none, swa = (known[cell.fingerprint] for cell in asked.cells if cell.variant in {"none", "swa"})
    assert swa - none == pytest.approx(18 * 1e-9 * asked.cells[0].cost.macs / 3)


CUDA = replace(CPU, device="cuda")
GIB = 2**30


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[TimingRequest]:
    """Has a worker that times steps answer so; what it is asked."""
    asked: list[TimingRequest] = []

    def ask(questions: list[TimingRequest]) -> list[Any]:
        asked.extend(questions)
        return [answer(question) for question in questions]

    monkeypatch.setattr(step_timing, "measure_steps", ask)
    return asked


def step_of(question: TimingRequest) -> StepTiming:
    """A GPU on which a step takes 3 ms at least, and 1e-12 s for each multiply-accumulate."""
    recipe = question.recipe
    step = max(3e-3, 1e-12 * network_cost(recipe.model).macs * recipe.train.batch_size)
    return StepTiming(1.0, step, busy=0.3 if question.share else None, reserved=2 * GIB, memory=80 * GIB)


def test_on_cuda_no_step_is_shorter_than_that_of_the_smallest_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = answering(monkeypatch, step_of)
    asked = plan("width", tmp_path)
    pace = measure(asked, CUDA)
    works = sorted(network_cost(cell.recipe.model).macs * cell.recipe.train.batch_size for cell in asked.cells)
    timed = [network_cost(each.recipe.model).macs * each.recipe.train.batch_size for each in questions]
    assert timed == [works[-1], works[0]], "the most work for the rate, the least for the floor"
    assert pace.floor == step_of(questions[1]).step
    assert pace.rates == {"auto": pytest.approx(step_of(questions[0]).step / works[-1])}
    slow = estimate(asked, replace(pace, floor=1.0))
    epochs = asked.cells[0].recipe.train.epochs
    assert min(slow.values()) == pytest.approx(START_SECONDS + epochs, rel=0.01), "an epoch here is one step"


def test_on_cuda_the_step_that_is_timed_has_both_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(question: TimingRequest) -> StepTiming:
        recipe = question.recipe
        return StepTiming(1.0, recipe.passes * 1e-12 * network_cost(recipe.model).macs * recipe.train.batch_size)

    questions = answering(monkeypatch, step)
    asked = plan("sam", tmp_path)
    pace = measure(asked, CUDA)
    assert [question.recipe.passes for question in questions] == [2, 1], (
        "the most work for the rate, the least after it"
    )
    assert pace.rates == {"auto": pytest.approx(1e-12)}
    assert pace.floor == step(questions[1]).step
    off = asked.cells[0]
    assert estimate(asked, pace)[off.fingerprint] > START_SECONDS


def test_on_cuda_each_precision_is_timed_and_the_largest_says_how_many_share_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, step_of)
    pace = measure(plan("precision", tmp_path), CUDA)
    assert set(pace.rates) == {"fp32", "bf16"}
    count, why = share(pace, cores=16, data=GIB // 4)
    assert count == 3
    assert why == (
        "3 cells a GPU: a step keeps it busy for 30 % of its time, a cell takes 2.2 of 80 GiB, and there are 16 cores "
        "for each GPU; 8 at most"
    )
    assert share(TrainingSpeed(), cores=16, data=0)[0] == 1


def test_a_worker_that_fails_leaves_rough_estimates_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, lambda _: TimingError("OutOfMemoryError: CUDA out of memory"))
    said: list[str] = []
    asked = plan("width", tmp_path)
    pace = measure(asked, CUDA, said.append)
    assert said == [
        "warning: training steps could not be timed (OutOfMemoryError: CUDA out of memory): the estimates are rough"
    ]
    assert pace.floor == ASSUMED_FLOOR
    assert min(estimate(asked, pace).values()) > START_SECONDS
    assert share(pace, cores=16, data=0)[0] == 1


def test_the_small_network_serves_where_the_large_one_could_not_be_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, lambda question: TimingError("no room") if question.share else step_of(question))
    pace = measure(plan("width", tmp_path), CUDA)
    assert pace.floor == 3e-3
    assert set(pace.rates) == {"auto"}


def test_on_cuda_nothing_is_asked_where_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, step_of)
    done = plan("width", tmp_path)
    done = replace(done, cells=tuple(replace(cell, state="finished") for cell in done.cells))
    assert measure(done, CUDA) == TrainingSpeed()
    assert not asked


def test_what_stands_for_others_is_timed_though_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that goes on has trained its baseline: trials like it are still to be estimated, and to share GPUs."""
    answering(monkeypatch, step_of)
    done = plan("width", tmp_path)
    done = replace(done, cells=tuple(replace(cell, state="finished") for cell in done.cells))
    pace = measure(done, CUDA, done=True)
    assert share(pace, cores=16, data=0)[0] == 3
    assert min(estimate(done, pace, done=True).values()) > START_SECONDS


def test_steps_are_timed_on_the_gpu_that_cells_will_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = answering(monkeypatch, step_of)
    measure(plan("width", tmp_path), CUDA, place="cuda:1")
    assert {question.place for question in questions} == {"cuda:1"}


def test_a_students_estimate_has_the_forward_passes_of_its_teacher(tmp_path: Path) -> None:
    asked = plan("distillation", tmp_path)
    found = {cell.name: cell for cell in asked.cells}
    seconds = estimate(asked, TrainingSpeed(rates={"auto": 1e-12}))
    none, student, wide = (found[name] for name in ("none/s0", "t4-w0.9/s0", "teacher/s0"))
    more = seconds[student.fingerprint] - seconds[none.fingerprint]
    images = trained_images(student, asked) * student.recipe.train.epochs
    assert more == pytest.approx(images * wide.cost.macs * 1e-12 / 3)
    floored = estimate(asked, TrainingSpeed(rates={"auto": 1e-18}, floor=0.003))
    steps = student.recipe.steps_per_epoch(trained_images(student, asked)) * student.recipe.train.epochs
    assert floored[student.fingerprint] - floored[none.fingerprint] == pytest.approx(steps * 0.001, rel=1e-4)

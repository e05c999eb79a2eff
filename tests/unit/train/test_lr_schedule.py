"""The learning rate, step by step against torch's schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from cifar_lab.config.recipe import ScheduleConfig
from cifar_lab.train.lr_schedule import factor, lr_at

NAMES = ["constant", "cosine", "linear", "step", "multistep", "one_cycle", "warm_restarts"]


def torchs(make: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    """The learning rates, from 0.1 on, that a torch scheduler gives to `steps` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(schedule: ScheduleConfig, *, epochs: int, steps_per_epoch: int = 1) -> list[float]:
    steps = range(epochs * steps_per_epoch)
    return [lr_at(schedule, 0.1, step=s, steps_per_epoch=steps_per_epoch, epochs=epochs) for s in steps]


@st.composite
def schedules(draw: st.DrawFn) -> ScheduleConfig:
    fraction = st.floats(1e-3, 1)
    return ScheduleConfig(
        name=draw(st.sampled_from(NAMES)),
        every=draw(st.sampled_from(["epoch", "step"])),
        warmup=draw(st.floats(0, 0.99)),
        step_size=draw(fraction),
        milestones=tuple(sorted(draw(st.sets(st.floats(0, 1), max_size=4)))),
        gamma=draw(fraction),
        rise=draw(st.floats(1e-3, 0.999)),
        start_div=draw(st.floats(1, 100)),
        final_div=draw(st.floats(1, 1e6)),
        period=draw(fraction),
        period_growth=draw(st.integers(1, 4)),
    )


# Against torch


@pytest.mark.parametrize("epochs", [1, 7, 200])
def test_linear_is_torchs_linear_lr_to_zero(epochs: int) -> None:
    expected = torchs(lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=epochs), epochs)
    assert ours(ScheduleConfig(name="linear"), epochs=epochs) == pytest.approx(expected)


@pytest.mark.parametrize("epochs", [1, 7, 200])
def test_cosine_is_torchs_cosine_annealing(epochs: int) -> None:
    expected = torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=epochs), epochs)
    assert ours(ScheduleConfig(name="cosine"), epochs=epochs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("epochs", "every"), [(10, 1), (10, 3), (200, 60), (30, 30)])
def test_step_is_torchs(epochs: int, every: int) -> None:
    expected = torchs(lambda o: lr_scheduler.StepLR(o, every, gamma=0.2), epochs)
    assert ours(ScheduleConfig(name="step", step_size=every / epochs, gamma=0.2), epochs=epochs) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(("epochs", "milestones"), [(10, [3, 7]), (200, [60, 120, 160]), (30, [0, 29]), (5, [])])
def test_multistep_is_torchs(epochs: int, milestones: list[int]) -> None:
    expected = torchs(lambda o: lr_scheduler.MultiStepLR(o, milestones, gamma=0.2), epochs)
    schedule = ScheduleConfig(name="multistep", milestones=tuple(m / epochs for m in milestones), gamma=0.2)
    assert ours(schedule, epochs=epochs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epochs", "first", "growth"), [(12, 3, 1), (200, 60, 1), (70, 10, 2), (53, 4, 3), (30, 30, 2)]
)
def test_warm_restarts_are_torchs(epochs: int, first: int, growth: int) -> None:
    expected = torchs(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, first, growth), epochs)
    schedule = ScheduleConfig(name="warm_restarts", period=first / epochs, period_growth=growth)
    assert ours(schedule, epochs=epochs) == pytest.approx(expected, abs=1e-9)


def torchs_one_cycle(schedule: ScheduleConfig, steps: int) -> list[float]:
    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.OneCycleLR:
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=0.1,
            total_steps=steps + 1,  # torch's scheduler takes a step of its own after the last
            pct_start=(schedule.rise * steps + 1) / (steps + 1),
            div_factor=schedule.start_div,
            final_div_factor=schedule.final_div,
            cycle_momentum=False,
        )

    return torchs(make, steps)


@pytest.mark.parametrize(("rise", "start_div", "final_div"), [(0.3, 25.0, 1e4), (0.5, 1.0, 10.0), (0.1, 4.0, 1.0)])
def test_one_cycle_is_torchs_with_its_peak_at_rise_and_its_end_at_one(
    rise: float, start_div: float, final_div: float
) -> None:
    """Torch's peak is on step pct_start * total_steps - 1, and its end on step total_steps - 1."""
    schedule = ScheduleConfig(name="one_cycle", every="step", rise=rise, start_div=start_div, final_div=final_div)
    rates = ours(schedule, epochs=20, steps_per_epoch=10)
    assert rates == pytest.approx(torchs_one_cycle(schedule, 200), abs=1e-9)


def test_one_cycle_as_torch_users_write_it_differs_by_its_one_step_only() -> None:
    schedule = ScheduleConfig(name="one_cycle", every="step")
    rates = ours(schedule, epochs=20, steps_per_epoch=10)
    expected = torchs(lambda o: lr_scheduler.OneCycleLR(o, 0.1, 201, cycle_momentum=False), 200)
    a_step = 0.1 * math.pi / 2 / (schedule.rise * 200)  # at the steepest
    assert max(abs(a - b) for a, b in zip(rates, expected, strict=True)) < a_step


# Any schedule


@settings(deadline=None)
@given(schedules(), st.floats(0, 1, exclude_max=True))
def test_the_factor_is_in_the_unit_interval(schedule: ScheduleConfig, progress: float) -> None:
    assert 0 <= factor(schedule, progress) <= 1


@settings(deadline=None)
@given(schedules(), st.integers(1, 30), st.integers(1, 30), st.data())
def test_no_rate_is_negative_or_above_the_recipes(
    schedule: ScheduleConfig, epochs: int, steps_per_epoch: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, epochs * steps_per_epoch - 1))
    rate = lr_at(schedule, 0.1, step=step, steps_per_epoch=steps_per_epoch, epochs=epochs)
    assert 0 <= rate <= 0.1 + 1e-12


@settings(deadline=None)
@given(schedules().filter(lambda s: s.name not in {"one_cycle", "warm_restarts"}))
def test_all_but_one_cycle_and_warm_restarts_only_fall(schedule: ScheduleConfig) -> None:
    factors = [factor(schedule, i / 100) for i in range(100)]
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_holds_for_an_epoch_unless_it_moves_by_step(name: str) -> None:
    rates = ours(ScheduleConfig(name=name, every="epoch"), epochs=20, steps_per_epoch=10)
    assert rates == [rate for rate in ours(ScheduleConfig(name=name, every="epoch"), epochs=20) for _ in range(10)]
    assert rates[::10] == ours(ScheduleConfig(name=name, every="step"), epochs=20, steps_per_epoch=10)[::10]


@pytest.mark.parametrize("tenths", [1, 3, 7])
def test_a_rate_falls_on_its_epoch_in_spite_of_rounding(tenths: int) -> None:
    for epochs in range(10, 500, 10):
        rates = ours(ScheduleConfig(name="step", step_size=tenths / 10), epochs=epochs)
        falls = [epoch for epoch in range(1, epochs) if rates[epoch] < rates[epoch - 1]]
        assert falls == list(range(epochs * tenths // 10, epochs, epochs * tenths // 10))


# Warm-up


@pytest.mark.parametrize("every", ["epoch", "step"])
def test_the_warm_up_rises_by_step_in_a_line_to_the_recipes_rate(every: Literal["epoch", "step"]) -> None:
    rates = ours(ScheduleConfig(name="cosine", every=every, warmup=0.25), epochs=8, steps_per_epoch=10)
    assert rates[:20] == pytest.approx([0.1 * (step + 1) / 20 for step in range(20)])
    assert rates[20] == 0.1


@pytest.mark.parametrize("name", NAMES)
def test_after_the_warm_up_the_whole_schedule_runs_over_what_remains(name: str) -> None:
    warmed = ours(ScheduleConfig(name=name, every="step", warmup=0.2), epochs=10, steps_per_epoch=10)
    assert warmed[20:] == ours(ScheduleConfig(name=name, every="step"), epochs=8, steps_per_epoch=10)


def test_a_warm_up_that_ends_within_an_epoch_holds_its_rate_to_the_end_of_it() -> None:
    rates = ours(ScheduleConfig(name="cosine", warmup=0.05), epochs=10, steps_per_epoch=10)
    assert rates[4:10] == pytest.approx([0.1] * 6)
    assert rates[10] < 0.1


def test_the_warm_up_of_one_cycle_leads_to_where_the_cycle_starts() -> None:
    rates = ours(
        ScheduleConfig(name="one_cycle", every="step", warmup=0.1, start_div=10.0), epochs=10, steps_per_epoch=10
    )
    assert rates[9] == pytest.approx(0.01)
    assert rates[10] == pytest.approx(0.01)


def test_a_warm_up_of_less_than_half_a_step_is_none() -> None:
    assert ours(ScheduleConfig(name="cosine", warmup=0.01), epochs=20) == ours(ScheduleConfig(name="cosine"), epochs=20)

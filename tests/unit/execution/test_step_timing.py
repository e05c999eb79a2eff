"""Steps are timed as a worker takes them, and a worker that fails is no more than an answer."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import psutil
import pytest
import torch

from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.execution import step_timing
from cifar_lab.execution.step_timing import (
    StepTiming,
    TimingError,
    TimingRequest,
    glance,
    measure_steps,
    real_step,
    time_steps,
)

CPU = Execution(device="cpu", threads=1, precision="fp32")
TINY = {"model.blocks": (1,), "model.width": 8, "train.batch_size": 4}
EVERYTHING = {**TINY, "train.ema": 0.9, "model.dropout": 0.1, "optim.lookahead.enabled": True}


@pytest.mark.parametrize(
    "recipe", [EFFICIENT_RESNET.override(TINY), FAST.override(TINY), EFFICIENT_RESNET.override(EVERYTHING)]
)
def test_a_step_is_taken_as_in_training_for_as_long_as_is_asked(recipe: Recipe) -> None:
    steps = iter(range(100))
    original = step_timing.Stepper.take
    seen: list[int] = []

    def noted(stepper: step_timing.Stepper) -> None:
        next(steps)
        seen.append(stepper.trainer.step)
        original(stepper)
        assert stepper.trainer.losses[stepper.trainer.step].isfinite()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_timing.Stepper, "take", noted)
        take = real_step(recipe, CPU, steps=2)
        for _ in range(5):
            take()
    assert seen == [0, 1, 0, 1, 0]


def test_nothing_of_this_process_is_changed() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    recipe = Recipe().override(EVERYTHING)
    for timed in (time_steps(recipe, CPU, batch=4, patience=0.1), glance(recipe, CPU, 4)):
        assert timed.step > 0
        assert timed.busy is None
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_worker_answers_each_question_and_a_failure_is_a_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("what fails here without CUDA does not with it")
    cuda = Execution(device="cuda", threads=1, precision="fp32")
    question = TimingRequest(recipe=Recipe().override(TINY), execution=cuda)
    first, second = measure_steps([question, question])
    assert isinstance(first, TimingError)
    assert isinstance(second, TimingError)
    assert "\n" not in str(first)
    with pytest.raises(TimingError):
        time_steps(question.recipe, cuda)


def _dies(_questions: list[TimingRequest], _channel: object) -> None:
    os._exit(9)


def _sleeps(_questions: list[TimingRequest], channel: step_timing.Connection) -> None:
    import time

    channel.send(StepTiming(1.0, 0.1))
    time.sleep(60)


def test_a_worker_that_dies_or_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    question = TimingRequest(recipe=Recipe(), execution=CPU)
    monkeypatch.setattr(step_timing, "_answer", _dies)
    assert list(map(str, measure_steps([question]))) == ["the process that times steps ended with code 9"]
    monkeypatch.setattr(step_timing, "_answer", _sleeps)
    timed, lost = measure_steps([question, question], patience=2.0)
    assert timed == StepTiming(1.0, 0.1)
    assert isinstance(lost, TimingError)
    assert str(lost) == "no answer within 2 s"


def test_a_worker_whose_runner_was_killed_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    receive, send = multiprocessing.Pipe(duplex=False)
    receive.close()
    measured = []
    monkeypatch.setattr(step_timing, "_measured", lambda question: measured.append(question) or StepTiming(1.0, 0.1))
    monkeypatch.setattr(step_timing.signal, "signal", lambda *_: None)
    question = TimingRequest(recipe=Recipe(), execution=CPU)
    step_timing._answer([question, question], send)
    assert measured == [question]


RUNNER = """
import multiprocessing, os, sys, time
from cifar_lab.execution import step_timing

def never(question):
    print(os.getpid(), flush=True)
    time.sleep(60)

step_timing._measured = never
context = multiprocessing.get_context("fork")
receive, send = context.Pipe(duplex=False)
context.Process(target=step_timing._answer, args=([None], send)).start()
time.sleep(60)
"""
"""Program whose worker answers a question for a minute."""


@pytest.mark.slow
def test_a_worker_ends_in_the_middle_of_a_step_once_its_runner_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", RUNNER], stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        worker = psutil.Process(int(runner.stdout.readline()))
        assert worker.is_running()
        runner.kill()
        worker.wait(timeout=20)


def test_one_slow_step_decides_nothing() -> None:
    assert step_timing.low_quantile([1.0, 60.0, 1.1, 1.0, 1.2]) == 1.0
    assert step_timing.low_quantile([1.0, 60.0]) == 1.0
    assert step_timing.low_quantile([2.0]) == 2.0


def test_steps_are_timed_after_a_warm_up_and_there_are_enough_of_them() -> None:
    taken = []
    timed = step_timing._until_known(lambda: taken.append(1), patience=0.0)
    assert len(taken) == 1 + step_timing.WARM_STEPS + step_timing.FEWEST - step_timing.WARM_STEPS
    assert timed.step <= 1.0


def _is_killed(_questions: list[TimingRequest], _channel: object) -> None:
    os.kill(os.getpid(), 9)


def test_a_worker_that_is_killed_found_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_timing, "_answer", _is_killed)
    with pytest.raises(TimingError, match="killed by SIGKILL") as caught:
        time_steps(Recipe().override(TINY), CPU)
    assert caught.value.out_of_memory

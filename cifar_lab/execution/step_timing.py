"""Time training steps as a worker takes them, in a separate process.

So the runner holds no CUDA context, and running out of memory ends neither the runner nor its cells.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from threading import Thread
from typing import NamedTuple

import torch
import torch.nn.functional as F

from cifar_lab.config.execution import Execution
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.splits import ImageSubset, Split
from cifar_lab.errors import CifarLabError, first_line
from cifar_lab.execution import fork_server
from cifar_lab.execution.out_of_memory import advice, is_out_of_memory
from cifar_lab.execution.settings import compiled, prepare_process, resolved
from cifar_lab.models.registry import build_network
from cifar_lab.train.evaluate import ON_A_GPU, evaluate_network
from cifar_lab.train.precision import autocast
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

logger = logging.getLogger(__name__)
PATIENCE, GLANCE = 4.0, 0.5
"""Approximate timing budget in seconds on a CPU: for the compile decision, and for a rough estimate."""
WARM_UP, LOOK = 1.0, 1.0
"""Seconds of warm-up steps on CUDA, during which the clocks rise, and of timed steps."""
NOISE_STEPS = 50
"""Steps per epoch of noise on CUDA: drawing it is timed with them, in proportion."""
WARM_STEPS, FEWEST, MOST, TURNS = 2, 5, 25, 5
"""Warm-up steps on a CPU, minimum and maximum of timed steps there, and rounds of timed steps on CUDA."""
PROFILED = 5
"""Number of steps whose GPU time is summed."""
ANSWER_WITHIN = 600.0
"""Seconds after which a worker that times steps is given up; compiling may take one or two hundred."""


class TimingError(CifarLabError):
    """Failure to time steps, with a reason in one line; a worker process sends it to the runner."""

    def __init__(self, why: str, *, out_of_memory: bool = False) -> None:
        super().__init__(why)
        self.out_of_memory = out_of_memory
        """True if the steps ran out of memory, as a training would."""


class StepTiming(NamedTuple):
    """Duration of training steps in seconds, and their use of a GPU."""

    first: float
    """Duration of the first step, including the compilation if requested."""
    step: float
    """Duration of a later step: a low quantile, robust to slow outliers."""
    busy: float | None = None
    """Share of a step during which the GPU computes; None if not measured."""
    reserved: int = 0
    """Peak GPU memory reserved by the process, in bytes."""
    memory: int = 0
    """GPU memory available to cells, in bytes: all but what other programs hold."""


@dataclass(frozen=True, kw_only=True)
class TimingRequest:
    """Request to time steps; it is pickled and sent to a worker process."""

    recipe: Recipe
    execution: Execution
    share: bool = False
    """Also measure the share of a step during which the GPU computes."""
    place: str = ""
    """GPU if there are several, `cuda:1`; empty: torch's first."""
    whole: bool = True
    """Include the optimizer update, as in training; otherwise time only forward and backward passes, on a CPU."""
    patience: float = 4.0
    """Approximate timing budget in seconds on a CPU."""
    images: ImageShape = CIFAR10_SHAPE


def time_steps(
    recipe: Recipe,
    execution: Execution,
    batch: int | None = None,
    patience: float = PATIENCE,
    place: str = "",
    images: ImageShape = CIFAR10_SHAPE,
) -> StepTiming:
    """Return the time of whole training steps, on noise, with `batch` images (none: the recipe's).

    A worker process takes the steps, on the GPU `place` if given; running out of memory or being killed ends only it.

    Raises:
        TimingError: the worker failed.
    """
    recipe = recipe if batch is None else recipe.override({"train.batch_size": batch})
    return _one_answer(TimingRequest(recipe=recipe, execution=execution, place=place, patience=patience, images=images))


def glance(recipe: Recipe, execution: Execution, batch: int, images: ImageShape = CIFAR10_SHAPE) -> StepTiming:
    """Return the time of forward and backward passes on `batch` images of noise, in a worker process.

    The optimizer update does not depend on the batch size and would be too large a share for a small batch; loading an
    optimizer also takes seconds.

    Raises:
        TimingError: the worker failed.
    """
    recipe = recipe.override({"train.batch_size": batch})
    return _one_answer(TimingRequest(recipe=recipe, execution=execution, whole=False, patience=GLANCE, images=images))


def _one_answer(question: TimingRequest) -> StepTiming:
    answer = measure_steps([question])[0]
    if isinstance(answer, TimingError):
        raise answer
    return answer


def passes(recipe: Recipe, execution: Execution, shape: ImageShape = CIFAR10_SHAPE) -> Callable[[], None]:
    """Return a function that runs a forward and a backward pass of a cell's network on a batch of noise."""
    device = torch.device(execution.device)
    precision = resolved(execution, recipe).precision
    net = build_network(recipe.model, seed=0, images=shape, device=device)
    forward = compiled(net) if execution.compile else net
    noise, batch = torch.Generator().manual_seed(0), recipe.train.batch_size
    images = torch.randn(batch, 3, shape.side, shape.side, generator=noise).to(device)
    labels = torch.randint(shape.classes, (batch,), generator=noise).to(device)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with autocast(precision, device):  # type: ignore[arg-type]
            logits = forward(images)
        F.cross_entropy(logits.float(), labels).backward()
        if device.type != "cpu":
            torch.accelerator.synchronize()

    return step


def real_step(
    recipe: Recipe, execution: Execution, steps: int, images: ImageShape = CIFAR10_SHAPE
) -> Callable[[], None]:
    """Return a function that takes the next training step of a cell's network, in epochs of `steps` steps.

    The learning rate is tiny, so that the network stays finite for any number of steps at the same cost.
    """
    return _taking_steps(_trainer(recipe, execution, steps, images))


def _trainer(recipe: Recipe, execution: Execution, steps: int, images: ImageShape) -> Trainer:
    device = torch.device(execution.device)
    recipe = recipe.override({"optim.lr": 1e-6, "train.distill.weight": 0.0})  # without teachers, which need a record
    net = build_network(recipe.model, seed=0, images=images, device=device)
    precision = resolved(execution, recipe).precision
    noise = _noise(recipe.train.batch_size * steps, images, device)
    trainer = Trainer(recipe, 0, net, noise, precision, graph=execution.graph)  # type: ignore[arg-type]
    if execution.compile and not trainer.callbacks.why_eager:
        trainer.forward = compiled(net)
    return trainer


def _taking_steps(trainer: Trainer) -> Callable[[], None]:
    """Return a function that takes the trainer's next step, epoch after epoch; all timing code uses it."""
    stepper = Stepper(trainer, graph=trainer.graph)
    trainer.callbacks.begin(trainer)
    trainer.step = trainer.steps_per_epoch

    def take() -> None:
        if trainer.step == trainer.steps_per_epoch:
            trainer.step = 0
            stepper.begin_epoch()
        stepper.take()
        trainer.step += 1

    return take


def _noise(count: int, shape: ImageShape, device: torch.device) -> Split:
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, shape.side, shape.side, 3), generator=noise, dtype=torch.uint8)
    labels = torch.randint(shape.classes, (count,), generator=noise)
    part = ImageSubset(images.to(device), labels.to(device), torch.arange(count, device=device))
    return Split(train=part, clean_train=part, watched=part, watched_name="val", test=part, classes=shape.classes)


def _until_known(step: Callable[[], None], patience: float) -> StepTiming:
    """Return the duration of the first step, and a low quantile of the others after a warm-up.

    Other load on the machine only makes steps slower, so slow steps are ignored. At least `FEWEST` and at most `MOST`
    other steps are timed, as many as fit into `patience` seconds.
    """

    def timed() -> float:
        began = time.perf_counter()
        step()
        return time.perf_counter() - began

    first, times = timed(), [timed() for _ in range(WARM_STEPS)]
    if max(first, *times) < patience:  # steps that take so long are not slow because of a cold start
        times = []
    until = time.perf_counter() + patience
    while len(times) < FEWEST or (time.perf_counter() < until and len(times) < MOST):
        times.append(timed())
    return StepTiming(first, low_quantile(times))


def low_quantile(times: Sequence[float]) -> float:
    """Return the time that a fifth of `times`, at least one of them, do not exceed."""
    return sorted(times)[len(times) // 5]


def measure_steps(
    questions: Sequence[TimingRequest], patience: float = ANSWER_WITHIN
) -> list[StepTiming | TimingError]:
    """Return the answer of a worker process to each question, a measurement or a `TimingError` with the reason."""
    context = fork_server.start_fork_server(fork_server.WITHOUT_COMPILER)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(list(questions), send), daemon=True)
    process.start()
    send.close()
    answers: list[StepTiming | TimingError] = []
    try:
        while len(answers) < len(questions) and receive.poll(patience):
            answers.append(receive.recv())
        lost = TimingError(f"no answer within {patience:.0f} s")
    except EOFError:
        process.join()
        lost = _how_it_ended(process.exitcode)
    finally:
        receive.close()
        if process.is_alive() and len(answers) < len(questions):
            process.kill()
        process.join()
    return answers + [lost] * (len(questions) - len(answers))


def _how_it_ended(code: int | None) -> TimingError:
    """Describe a process that ended without an answer; the kernel kills processes that use too much memory."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return TimingError(f"the process that times steps was killed by {name}", out_of_memory=name == "SIGKILL")
    return TimingError(f"the process that times steps ended with code {code}")


def _answer(questions: Sequence[TimingRequest], channel: Connection) -> None:
    """Answer the questions, in the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the runner ends this process
    Thread(target=_end_with_the_runner, daemon=True).start()
    for question in questions:
        try:
            answer: StepTiming | TimingError = _measured(question)
        except Exception as error:  # noqa: BLE001 (a full or broken device, no compiler: the runner says it)
            answer = _in_one_line(error, question)
        finally:
            torch.cuda.empty_cache()
        try:
            channel.send(answer)
        except BrokenPipeError:  # the runner was killed, and nobody waits for the answers
            return


def _end_with_the_runner() -> None:
    """End this process once the runner has ended, also in the middle of a step: nobody waits for its answers."""
    runner = parent_process()
    if runner is not None:
        connection.wait([runner.sentinel])
        os._exit(1)


def _in_one_line(error: Exception, question: TimingRequest) -> TimingError:
    if is_out_of_memory(error):
        if not question.whole:  # so small a batch is not representative of the recipe's own
            few = question.recipe.train.batch_size
            return TimingError(
                f"out of memory with {few} images; try a smaller network, model.width", out_of_memory=True
            )
        device = torch.device(question.place or question.execution.device)
        return TimingError(advice(error, question.recipe, device, sharing=1), out_of_memory=True)
    return TimingError(f"{type(error).__name__}: {first_line(error)}")


def _measured(question: TimingRequest) -> StepTiming:
    """Time the steps of `question` in this process."""
    recipe, execution = question.recipe, question.execution
    if execution.device.startswith("cuda"):
        return _on_cuda(question)
    prepare_process(execution)
    shape = question.images
    step = real_step(recipe, execution, 1, shape) if question.whole else passes(recipe, execution, shape)
    return _until_known(step, question.patience)


def _on_cuda(question: TimingRequest) -> StepTiming:
    """Time steps after a warm-up, without synchronization between them, as in training."""
    prepare_process(question.execution)
    if question.place:
        torch.cuda.set_device(question.place)
    torch.cuda.reset_peak_memory_stats()
    trainer = _trainer(question.recipe, question.execution, NOISE_STEPS, question.images)
    take = _taking_steps(trainer)

    def timed(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            take()
        torch.cuda.synchronize()
        return time.perf_counter() - began

    first, until, each = timed(1), time.perf_counter() + WARM_UP, math.inf
    while time.perf_counter() < until:
        each = min(each, timed(5) / 5)
    count = max(PROFILED, math.ceil(LOOK / each / TURNS))
    step = low_quantile([timed(count) / count for _ in range(TURNS)])
    busy = _busy_seconds(lambda: timed(PROFILED)) / PROFILED / step if question.share else None
    part = trainer.split.watched  # an evaluation takes memory beside that of a graph
    evaluate_network(trainer.net, replace(part, index=part.index[:ON_A_GPU]), trainer.recipe.data, trainer.precision)
    free, total = torch.cuda.mem_get_info()
    memory = min(total, free + torch.cuda.memory_reserved())  # memory of other programs is not available
    return StepTiming(first, step, busy, torch.cuda.max_memory_reserved(), memory)


def _busy_seconds(work: Callable[[], object]) -> float:
    """Return the GPU time of `work` in seconds, kernels and copies, from torch's profiler; 0 if it cannot measure."""
    from torch.profiler import ProfilerActivity, profile

    try:
        # one cycle holds all events; torch warns about events of other cycles
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiled:
            work()
        events = profiled.events() or []
        ours = (e for e in events if e.device_type.name == "CUDA" and not getattr(e, "is_user_annotation", False))
        return float(sum(event.self_device_time_total for event in ours)) / 1e6
    except RuntimeError as error:
        logger.warning("what share of a step the GPU computes could not be measured: %s", error)
        return 0.0

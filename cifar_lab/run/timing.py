"""Time training steps as a worker takes them, in a process of their own.

So the runner holds no context of CUDA, and steps that find no memory end neither it nor its cells.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch
import torch.nn.functional as F

from cifar_lab.data import augment
from cifar_lab.data.split import Part, Split
from cifar_lab.errors import CifarLabError
from cifar_lab.models.resnet import CLASSES, build
from cifar_lab.recipe import Recipe
from cifar_lab.run import fork_server
from cifar_lab.run.execution import Execution, compiled, prepare_process
from cifar_lab.run.out_of_memory import advice, is_out_of_memory
from cifar_lab.train.evaluate import ON_A_GPU, evaluate
from cifar_lab.train.precision import autocast
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer

logger = logging.getLogger(__name__)
PATIENCE, GLANCE = 4.0, 0.5
"""Seconds that steps are timed for on a CPU, about: where something hangs on it, and for an estimate."""
WARM_UP, LOOK = 1.0, 1.0
"""Seconds of steps on CUDA before those that are timed, in which the clocks rise, and of those."""
NOISE_STEPS = 50
"""Steps in an epoch of noise on CUDA: its draws are timed with them, in proportion."""
WARM_STEPS, FEWEST, MOST, TURNS = 2, 5, 25, 5
"""Steps on a CPU before those that are timed, of those at least and at most; turns of steps that are timed on CUDA."""
PROFILED = 5
"""Steps of which the GPU's work is summed."""
ANSWER_WITHIN = 600.0
"""Seconds after which a worker that times steps is given up; compiling may take one or two hundred."""


class TimingError(CifarLabError):
    """Steps could not be timed."""

    def __init__(self, why: str, *, out_of_memory: bool = False) -> None:
        super().__init__(why)
        self.out_of_memory = out_of_memory
        """Whether they found no memory, so that a training would find none either."""


@dataclass(frozen=True)
class NoAnswer:
    """Why steps could not be timed."""

    why: str
    """One line."""
    out_of_memory: bool = False
    """Steps found no memory."""


class Timed(NamedTuple):
    """Seconds of training steps, and what they took of a GPU."""

    first: float
    """Seconds of the first step, in which a network is compiled where that is asked for."""
    step: float
    """Seconds of a later step: a low quantile, so that one slow step decides nothing."""
    busy: float | None = None
    """Share of a step in which the GPU computes; none where that was not measured."""
    reserved: int = 0
    """Most bytes of the GPU's memory that the process took and kept."""
    memory: int = 0
    """Bytes of the GPU's memory that cells may have: all but what other programs hold."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Steps to be timed; it travels to a worker process."""

    recipe: Recipe
    execution: Execution
    share: bool = False
    """Whether the GPU's share of a step is wanted, too."""
    place: str = ""
    """The GPU of several, `cuda:1`; none: torch's first."""
    whole: bool = True
    """Whether the optimizer moves the weights, as in training; else passes forward and backward alone, on a CPU."""
    patience: float = 4.0
    """Seconds that steps are timed for on a CPU, about."""


def time_steps(
    recipe: Recipe, execution: Execution, batch: int | None = None, patience: float = PATIENCE, place: str = ""
) -> Timed:
    """Return the time of whole training steps, on noise, with `batch` images (none: the recipe's).

    A worker process takes them, on the GPU `place` where that is named: one that finds no memory, or is killed, ends
    nothing else.

    Raises:
        TimingError: that worker could not.
    """
    recipe = recipe if batch is None else recipe.override({"train.batch_size": batch})
    return _one_answer(Question(recipe=recipe, execution=execution, place=place, patience=patience))


def glance(recipe: Recipe, execution: Execution, batch: int) -> Timed:
    """Return the time of forward and backward passes on `batch` images of noise, in a worker process.

    The optimizer's part of a step does not depend on the batch, so it would be too large for a small one; and to load
    an optimizer takes seconds.

    Raises:
        TimingError: that worker could not.
    """
    recipe = recipe.override({"train.batch_size": batch})
    return _one_answer(Question(recipe=recipe, execution=execution, whole=False, patience=GLANCE))


def _one_answer(question: Question) -> Timed:
    answer = ask([question])[0]
    if isinstance(answer, NoAnswer):
        raise TimingError(answer.why, out_of_memory=answer.out_of_memory)
    return answer


def passes(recipe: Recipe, execution: Execution) -> Callable[[], None]:
    """Return what takes a batch of noise forward and backward through a network as a cell would have it."""
    device = torch.device(execution.device)
    precision = execution.resolved(recipe).precision
    net = build(recipe.model, seed=0, device=device)
    forward = compiled(net) if execution.compile else net
    noise, batch = torch.Generator().manual_seed(0), recipe.train.batch_size
    images = torch.randn(batch, 3, augment.SIDE, augment.SIDE, generator=noise).to(device)
    labels = torch.randint(CLASSES, (batch,), generator=noise).to(device)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with autocast(precision, device):  # type: ignore[arg-type]
            logits = forward(images)
        F.cross_entropy(logits.float(), labels).backward()
        if device.type != "cpu":
            torch.accelerator.synchronize()

    return step


def real_step(recipe: Recipe, execution: Execution, steps: int) -> Callable[[], None]:
    """Return what takes the next training step of a network as a cell would have it, in epochs of `steps` steps.

    The rate is tiny, so that the network stays finite however many steps are taken: it costs no less.
    """
    return _taking_steps(_trainer(recipe, execution, steps))


def _trainer(recipe: Recipe, execution: Execution, steps: int) -> Trainer:
    device = torch.device(execution.device)
    recipe = recipe.override({"optim.lr": 1e-6})
    net = build(recipe.model, seed=0, device=device)
    precision = execution.resolved(recipe).precision
    noise = _noise(recipe.train.batch_size * steps, device)
    trainer = Trainer(recipe, 0, net, noise, precision)  # type: ignore[arg-type]
    if execution.compile:
        trainer.forward = compiled(net)
    trainer.graph = execution.graph
    return trainer


def _taking_steps(trainer: Trainer) -> Callable[[], None]:
    """Return what takes the trainer's next step, epoch after epoch; the one place that knows how a step is taken."""
    stepper = Stepper(trainer, graph=trainer.graph)
    trainer.step = trainer.steps_per_epoch

    def take() -> None:
        if trainer.step == trainer.steps_per_epoch:
            trainer.step = 0
            stepper.begin_epoch()
        stepper.take()
        trainer.step += 1

    return take


def _noise(count: int, device: torch.device) -> Split:
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, augment.SIDE, augment.SIDE, 3), generator=noise, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (count,), generator=noise)
    part = Part(images.to(device), labels.to(device), torch.arange(count, device=device))
    return Split(train=part, clean_train=part, watched=part, watched_name="val", test=part)


def _until_known(step: Callable[[], None], patience: float) -> Timed:
    """Return the time of the first step, and a low quantile of others after a warm-up.

    Whatever else the machine does makes steps slower and never faster, so that the slow ones say nothing of a step.
    There are `FEWEST` others at least and `MOST` at most, as many as `patience` seconds have room for.
    """

    def timed() -> float:
        began = time.perf_counter()
        step()
        return time.perf_counter() - began

    first, times = timed(), [timed() for _ in range(WARM_STEPS)]
    if max(first, *times) < patience:  # steps that take that long are not slow for a cold start
        times = []
    until = time.perf_counter() + patience
    while len(times) < FEWEST or (time.perf_counter() < until and len(times) < MOST):
        times.append(timed())
    return Timed(first, low_quantile(times))


def low_quantile(times: Sequence[float]) -> float:
    """Return the time that a fifth of `times`, at least one of them, do not exceed."""
    return sorted(times)[len(times) // 5]


def ask(questions: Sequence[Question], patience: float = ANSWER_WITHIN) -> list[Timed | NoAnswer]:
    """Return what one worker process measured of each question, or a `NoAnswer` that says why it could not."""
    context = fork_server.start(fork_server.WITHOUT_COMPILER)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(list(questions), send), daemon=True)
    process.start()
    send.close()
    answers: list[Timed | NoAnswer] = []
    try:
        while len(answers) < len(questions) and receive.poll(patience):
            answers.append(receive.recv())
        lost = NoAnswer(f"no answer within {patience:.0f} s")
    except EOFError:
        process.join()
        lost = _how_it_ended(process.exitcode)
    finally:
        receive.close()
        if process.is_alive() and len(answers) < len(questions):
            process.kill()
        process.join()
    return answers + [lost] * (len(questions) - len(answers))


def _how_it_ended(code: int | None) -> NoAnswer:
    """Return one line about a process that ended without an answer; the kernel kills whoever takes too much memory."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return NoAnswer(f"the process that times steps was killed by {name}", out_of_memory=name == "SIGKILL")
    return NoAnswer(f"the process that times steps ended with code {code}")


def _answer(questions: Sequence[Question], channel: Connection) -> None:
    """Do the work of the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches everybody; the runner ends this process
    for question in questions:
        try:
            channel.send(_measured(question))
        except Exception as error:  # noqa: BLE001 (a full or broken device, no compiler: the runner says it)
            channel.send(_in_one_line(error, question))
        finally:
            torch.cuda.empty_cache()


def _in_one_line(error: Exception, question: Question) -> NoAnswer:
    if is_out_of_memory(error):
        if not question.whole:  # a batch that small says nothing of the recipe's own
            few = question.recipe.train.batch_size
            return NoAnswer(f"out of memory with {few} images; try a smaller network, model.width", out_of_memory=True)
        device = torch.device(question.place or question.execution.device)
        return NoAnswer(advice(error, question.recipe, device, sharing=1), out_of_memory=True)
    first = (str(error).strip().splitlines() or [""])[0]
    return NoAnswer(f"{type(error).__name__}: {first}")


def _measured(question: Question) -> Timed:
    """Time the steps of `question` in this process."""
    recipe, execution = question.recipe, question.execution
    if execution.device.startswith("cuda"):
        return _on_cuda(question)
    prepare_process(execution)
    step = real_step(recipe, execution, steps=1) if question.whole else passes(recipe, execution)
    return _until_known(step, question.patience)


def _on_cuda(question: Question) -> Timed:
    """Time steps after a warm-up; none waits for the one before, as in training."""
    prepare_process(question.execution)
    if question.place:
        torch.cuda.set_device(question.place)
    torch.cuda.reset_peak_memory_stats()
    trainer = _trainer(question.recipe, question.execution, NOISE_STEPS)
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
    evaluate(trainer.net, replace(part, index=part.index[:ON_A_GPU]), trainer.recipe.data, trainer.precision)
    free, total = torch.cuda.mem_get_info()
    memory = min(total, free + torch.cuda.memory_reserved())  # other programs keep what they have
    return Timed(first, step, busy, torch.cuda.max_memory_reserved(), memory)


def _busy_seconds(work: Callable[[], object]) -> float:
    """Return the seconds that the GPU computes and copies for `work`, as torch's profiler sums them; 0 if it cannot."""
    from torch.profiler import ProfilerActivity, profile

    try:
        # events of one cycle are all there are; torch warns of what it would leave out of others
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiled:
            work()
        events = profiled.events() or []
        ours = (e for e in events if e.device_type.name == "CUDA" and not getattr(e, "is_user_annotation", False))
        return float(sum(event.self_device_time_total for event in ours)) / 1e6
    except RuntimeError as error:
        logger.warning("what share of a step the GPU computes could not be measured: %s", error)
        return 0.0

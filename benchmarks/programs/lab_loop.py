"""Measure the images per second of the lab's loop, `cifar_lab.train.loop.fit`, as a worker with all threads runs it.

Everything in a step is the lab's: images taken and augmented, bf16 where the processor has it, loss, clipping, the
optimizer and Lookahead, and what is kept for the metrics. The allocator's settings are the runner's, which a worker
gets from its environment: start it with these, as `bench.py` does. With `--compile` the network is compiled, in the
first step.
"""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from sized import arguments, recipe_of, repeated
from stopwatch import Stopwatch, say
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cifar_lab.config import recipe
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.splits import split
from cifar_lab.errors import Interrupted
from cifar_lab.execution.settings import choose_execution, compiled, prepare_process, resolved
from cifar_lab.models.resnet import ResNet, build_network
from cifar_lab.train.loop import fit
from cifar_lab.train.trainer import Trainer


class Watch:
    """Observer that ticks after each step, and asks to stop when the stopwatch is done."""

    def __init__(self, watch: Stopwatch, batch: int) -> None:
        self.watch, self.batch, self.began, self.first = watch, batch, time.perf_counter(), 0.0

    def step(self, epoch: int, step: int, steps: int) -> None:  # noqa: ARG002 (an Observer)
        self.first = self.first or time.perf_counter() - self.began
        self.watch.tick(self.batch)

    def epoch(self, epoch: int, values: dict[str, float]) -> None: ...
    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None: ...

    def wants_to_stop(self) -> bool:
        return self.watch.is_done


def trainer_of(asked: Recipe, source: str, images: int) -> tuple[Trainer, Execution]:
    """Return a training as a cell begins it, alone on this machine's processor, with at least `images` per epoch."""
    execution = resolved(choose_execution("cpu", "1", cells=1)[0], asked)
    prepare_process(execution)
    net = build_network(asked.model, seed=0)
    parts = split(repeated(source, images), asked.data, asked.train.protocol, torch.device("cpu"))
    return Trainer(asked, 0, net, parts, execution.precision), execution  # type: ignore[arg-type]


def train(trainer: Trainer, observer: Watch) -> None:
    """Train until the watch of `observer` is done. An epoch must be longer than that."""
    try:
        fit(trainer, observer)
    except Interrupted:
        return
    raise AssertionError("the training ended before it was timed")


def flops_per_image(model: recipe.ModelConfig, batch: int) -> float:
    """Return the FLOPs of a training step per image, two per multiply-accumulate, by torch's counter."""
    with torch.device("meta"):
        net: nn.Module = ResNet(model)
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(net(torch.empty(batch, 3, 32, 32)), torch.zeros(batch, dtype=torch.long)).backward()
    return counter.get_total_flops() / batch


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    wanted = recipe_of(asked.width)
    batch = wanted.train.batch_size
    trainer, execution = trainer_of(wanted, asked.data, (asked.warmup + asked.steps + 1) * batch)
    if asked.compile:
        trainer.forward = compiled(trainer.net)
    watch = Stopwatch(asked.warmup, asked.steps)
    observer = Watch(watch, batch)
    train(trainer, observer)
    numbers = {**watch.numbers(), "first_seconds": observer.first}
    rate = flops_per_image(wanted.model, batch) * numbers["images_per_second"]
    print(f"{execution}, allocator {'told' if 'MALLOC_TRIM_THRESHOLD_' in os.environ else 'not told'} to keep memory")
    say({**numbers, "flops_per_image": flops_per_image(wanted.model, batch), "flops_per_second": rate})


if __name__ == "__main__":
    main()

"""Measure the images per second of the lab's loop, `cifar_lab.train.loop.fit`, as a worker with all threads runs it.

Everything in a step is the lab's: images taken and augmented, bf16 where the processor has it, loss, clipping, the
optimizer and Lookahead, and what is kept for the metrics. The allocator's settings are the runner's, which a worker
gets from its environment: start it with these, as `bench.py` does. With `--evaluate` it measures the lab's evaluation
of so many images, and the number of views of each.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import torch
from stopwatch import Stopwatch, arguments, parts_of, recipe_of, say
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cifar_lab.config import recipe
from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import Interrupted
from cifar_lab.execution.settings import choose_execution, prepare_process, resolved
from cifar_lab.models.resnet import ResNet, build_resnet
from cifar_lab.train.evaluate import evaluate_network
from cifar_lab.train.loop import fit
from cifar_lab.train.trainer import Trainer


class Watch:
    """Observer that ticks after each step, and asks to stop when the stopwatch is done."""

    def __init__(self, watch: Stopwatch, batch: int) -> None:
        self.watch, self.batch = watch, batch

    def step(self, epoch: int, step: int, steps: int) -> None:  # noqa: ARG002 (an Observer)
        self.watch.tick(self.batch)

    def epoch(self, epoch: int, values: dict[str, float]) -> None: ...
    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None: ...

    def wants_to_stop(self) -> bool:
        return self.watch.is_done


def trainer_of(asked: Recipe, source: str, images: int) -> tuple[Trainer, Execution]:
    """Return a training as a cell begins it, alone on this machine's processor, with at least `images` per epoch."""
    execution = resolved(choose_execution("cpu", "1", cells=1)[0], asked)
    prepare_process(execution)
    net, parts = build_resnet(asked.model, seed=0), parts_of(source, asked, images)
    return Trainer(asked, 0, net, parts, execution.precision), execution


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


def evaluated(trainer: Trainer, images: int) -> dict[str, float]:
    """Return the rate of an evaluation, and how often it looks at an image."""
    train, seen = trainer.split.train, list[int]()
    part, first = (replace(train, index=train.index[:count]) for count in (images, min(500, images)))
    evaluate_network(trainer.net, first, trainer.recipe.data, trainer.precision)  # the first batch is a warm-up
    trainer.net.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    began = time.perf_counter()
    evaluate_network(trainer.net, part, trainer.recipe.data, trainer.precision)
    return {"images_per_second": len(part) / (time.perf_counter() - began), "passes": sum(seen) / len(part)}


def main() -> None:
    asked = arguments(__doc__).parse_args()
    wanted, watch = recipe_of(asked.width), Stopwatch(asked.warmup, asked.steps)
    batch = wanted.train.batch_size
    images = asked.evaluate or (asked.warmup + asked.steps + 1) * batch
    trainer, execution = trainer_of(wanted, asked.data, images)
    print(f"{execution}, allocator {'told' if 'MALLOC_TRIM_THRESHOLD_' in os.environ else 'not told'} to keep memory")
    if asked.evaluate:
        return say(evaluated(trainer, images))
    train(trainer, Watch(watch, batch))
    numbers, flops = watch.numbers(), flops_per_image(wanted.model, batch)
    return say({**numbers, "flops_per_image": flops, "flops_per_second": flops * numbers["images_per_second"]})


if __name__ == "__main__":
    main()

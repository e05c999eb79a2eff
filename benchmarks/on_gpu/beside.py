"""Measure the parts of an epoch other than its steps: input, evaluation, journal, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cifar_lab.data import augmentation
from cifar_lab.store.journal import Journal
from cifar_lab.train import checkpoint
from cifar_lab.train.evaluate import evaluate_network
from cifar_lab.train.step import Stepper
from on_gpu import ways
from on_gpu.machine import host_milliseconds, milliseconds
from on_gpu.pack import Pack


def run(pack: Pack) -> None:
    """Time the parts one by one."""
    recipe = ways.recipe_of(pack, "efficient", pack.widths[0], **{"train.protocol": "writeup"})
    trainer = ways.trainer_of(pack, recipe)
    train, test, batch = trainer.split.train, trainer.split.test, recipe.train.batch_size

    def draw() -> Any:
        return augmentation.draw_epoch(recipe.data, len(train), seed=0, epoch=0, device=pack.device)

    here = draw()[:batch]

    def take() -> object:
        return augmentation.augment(*train.take(here.order), here, recipe.data)

    def look() -> object:
        return evaluate_network(trainer.net, test, recipe.data, trainer.precision)

    pack.note("beside", draw_ms=median(milliseconds(pack.device, draw, 1) for _ in range(3)), batch=batch)
    milliseconds(pack.device, take, 3)
    alone = captured(take) if pack.is_cuda else take
    pack.note("beside", input_ms=median(milliseconds(pack.device, alone, pack.size(50, 2)) for _ in range(3)))
    milliseconds(pack.device, look, 1)
    ms = median(milliseconds(pack.device, look, 1) for _ in range(pack.size(3, 1)))
    pack.note("beside", evaluation_ms=ms, evaluation_images_per_second=1000 * len(test) / ms)
    stepper = Stepper(trainer)
    stepper.begin_epoch()
    for _ in range(2):  # so that the optimizer has what it keeps
        stepper.take()
        trainer.step += 1
    stepper.close()
    with TemporaryDirectory(dir=pack.out) as folder:
        path, journal = Path(folder) / "checkpoint.pt", Journal(Path(folder))
        ms = host_milliseconds(pack.device, lambda: checkpoint.save(path, trainer.state_dict()), 3)
        pack.note("beside", checkpoint_ms=ms, checkpoint_mib=round(path.stat().st_size / 2**20, 1))
        values = {f"metric{i}": 0.5 for i in range(12)}
        pack.note("beside", journal_ms=host_milliseconds(pack.device, lambda: journal.points(0, values), 5))


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of `call` as a CUDA graph, as it is replayed within a step."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay

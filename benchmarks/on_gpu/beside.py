"""Measure the parts of an epoch other than its steps: input, evaluation, journal, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cifar_lab.data import augmentation
from cifar_lab.execution.settings import compiled
from cifar_lab.store.journal import Journal
from cifar_lab.train import checkpoint
from cifar_lab.train.evaluate import evaluate
from cifar_lab.train.loop import fit
from cifar_lab.train.step import Stepper
from on_gpu import ways
from on_gpu.pack import Pack
from on_gpu.speed import compiles_quickly, widths
from on_gpu.timing import milliseconds, synchronise

EPOCHS = 200
"""Length of a cell of the writeup."""


class Scribe:
    """Write journal and checkpoints as a worker does, and sum the seconds that this delays the training."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.path = Journal(folder), folder / "checkpoint.pt"
        self.writing, self.saving, self.saves = 0.0, 0.0, 0
        self.ends, self.seconds = list[float](), list[float]()

    def step(self, epoch: int, step: int, steps: int) -> None: ...

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        began = time.perf_counter()
        self.journal.points(epoch, values)
        self.ends.append(time.perf_counter())
        self.seconds.append(values["seconds"])
        self.writing += self.ends[-1] - began

    def saved(self, epoch: int, step: int, state: dict[str, Any]) -> None:
        began = time.perf_counter()
        checkpoint.save(self.path, state)
        self.journal.write("checkpoint", epoch=epoch, step=step)
        self.saving += time.perf_counter() - began
        self.saves += 1

    def wants_to_stop(self) -> bool:
        return False


def beside(pack: Pack) -> None:
    """Time the parts one by one, then a few epochs of the product's own loop with all of them."""
    width = widths(pack)[0]
    pack.attempt("parts of an epoch", lambda: parts(pack, width))
    pack.attempt("epochs of the loop", lambda: loop(pack, width))


def parts(pack: Pack, width: int) -> None:
    recipe = ways.recipe_of(pack, "efficient", width, **{"train.protocol": "writeup"})
    trainer = ways.trainer_of(pack, recipe)
    images, batch = len(trainer.split.train), recipe.train.batch_size
    began = time.perf_counter()
    draws = augmentation.draw_epoch(recipe.data, images, seed=0, epoch=0, device=pack.device)
    synchronise(pack.device)
    pack.note("beside", draw_ms=1000 * (time.perf_counter() - began), batch=batch)
    here = draws[:batch]

    def take() -> object:
        return augmentation.augment(*trainer.split.train.take(here.order), here, recipe.data)

    milliseconds(pack.device, take, 3)
    alone = captured(take) if pack.is_cuda else take
    pack.note("beside", input_ms=median(milliseconds(pack.device, alone, pack.size(50, 2)) for _ in range(3)))

    def look() -> object:
        return evaluate(trainer.net, trainer.split.test, recipe.data, trainer.precision)

    milliseconds(pack.device, look, 1)
    ms = median(milliseconds(pack.device, look, 1) for _ in range(pack.size(3, 1)))
    pack.note("beside", evaluation_ms=ms, evaluation_images_per_second=1000 * len(trainer.split.test) / ms)
    stepper = Stepper(trainer)
    stepper.begin_epoch()
    for _ in range(2):  # so that the optimizer has what it keeps
        stepper.take()
        trainer.step += 1
    stepper.close()
    with TemporaryDirectory(dir=pack.out) as folder:
        times = []
        for _ in range(3):
            synchronise(pack.device)
            began = time.perf_counter()
            checkpoint.save(Path(folder) / "checkpoint.pt", trainer.state_dict())
            times.append(1000 * (time.perf_counter() - began))
        size = (Path(folder) / "checkpoint.pt").stat().st_size
        pack.note("beside", checkpoint_ms=median(times), checkpoint_mib=round(size / 2**20, 1))
        journal, times = Journal(Path(folder)), []
        for epoch in range(5):
            began = time.perf_counter()
            journal.points(epoch, {f"metric{i}": 0.5 for i in range(12)})
            times.append(1000 * (time.perf_counter() - began))
        pack.note("beside", journal_ms=median(times))


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of `call` as a CUDA graph, as it is replayed within a step."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def loop(pack: Pack, width: int) -> None:
    """Run epochs of the writeup's protocol through `fit`, graph and compiled where there is a GPU."""
    pack.needs(10, "epochs of the loop")
    epochs = pack.size(6, 2)
    recipe = ways.recipe_of(pack, "efficient", width, **{"train.protocol": "writeup", "train.epochs": epochs})
    trainer = ways.trainer_of(pack, recipe)
    trainer.graph = pack.is_cuda
    if compiles_quickly(pack) and pack.left > 30:
        trainer.forward = compiled(trainer.net)
    with TemporaryDirectory(dir=pack.out) as folder:
        scribe = Scribe(Path(folder))
        fit(trainer, scribe)
    wall = scribe.ends[-1] - scribe.ends[0]  # without the first epoch, which compiles and captures
    later = epochs - 1
    pack.note(
        "beside", loop_epochs=later, loop_epoch_seconds=wall / later, loop_saves=scribe.saves,
        loop_saving_share=scribe.saving / wall, loop_journal_share=scribe.writing / epochs * later / wall,
        loop_training_share=(scribe.seconds[-1] - scribe.seconds[0]) / wall,
        loop_compiled=trainer.forward is not trainer.net, loop_graph=trainer.graph,
        loop_images=len(trainer.split.train),
    )  # fmt: skip
    if pack.is_cuda:
        torch.cuda.empty_cache()

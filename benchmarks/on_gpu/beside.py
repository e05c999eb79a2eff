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
from on_gpu.machine import host_milliseconds, milliseconds
from on_gpu.pack import Pack
from on_gpu.speed import compiles_quickly


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


def run(pack: Pack) -> None:
    """Time the parts one by one, then a few epochs of the product's own loop with all of them."""
    pack.attempt("parts of an epoch", parts, pack)
    pack.attempt("epochs of the loop", loop, pack)


def parts(pack: Pack) -> None:
    recipe = ways.recipe_of(pack, "efficient", pack.widths[0], **{"train.protocol": "writeup"})
    trainer = ways.trainer_of(pack, recipe)
    train, test, batch = trainer.split.train, trainer.split.test, recipe.train.batch_size

    def draw() -> Any:
        return augmentation.draw(recipe.data, len(train), seed=0, epoch=0, device=pack.device)

    here = draw()[:batch]

    def take() -> object:
        return augmentation.augment(*train.take(here.order), here, recipe.data)

    def look() -> object:
        return evaluate(trainer.net, test, recipe.data, trainer.precision)

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


def loop(pack: Pack) -> None:
    """Run epochs of the writeup's protocol through `fit`, graph and compiled where there is a GPU."""
    pack.needs(10, "epochs of the loop")
    epochs = pack.size(6, 2)
    diff = {"train.protocol": "writeup", "train.epochs": epochs}
    trainer = ways.trainer_of(pack, ways.recipe_of(pack, "efficient", pack.widths[0], **diff))
    trainer.graph = pack.is_cuda
    if compiles_quickly(pack) and pack.left > 30:
        trainer.forward = compiled(trainer.net)
    with TemporaryDirectory(dir=pack.out) as folder:
        scribe = Scribe(Path(folder))
        fit(trainer, scribe)
    wall, later = scribe.ends[-1] - scribe.ends[0], epochs - 1  # without the first epoch, which compiles and captures
    pack.note(
        "beside", loop_epochs=later, loop_epoch_seconds=wall / later, loop_saves=scribe.saves,
        loop_saving_share=scribe.saving / wall, loop_journal_share=scribe.writing / epochs * later / wall,
        loop_training_share=(scribe.seconds[-1] - scribe.seconds[0]) / wall,
        loop_compiled=trainer.forward is not trainer.net, loop_graph=trainer.graph,
        loop_images=len(trainer.split.train),
    )  # fmt: skip

"""Build the training steps that are compared: the lab's, in several ways, and a textbook loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.augmentation import MEAN, STD
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.execution.settings import compiled
from cifar_lab.models.cost import network_cost
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train.step import Stepper
from cifar_lab.train.trainer import Trainer
from cifar_lab.train.whiten import whiten
from on_gpu.pack import Pack

sys.path.append(str(Path(__file__).parents[1] / "programs"))

MIXED = {"data.mixup": 1.0, "data.cutmix": 1.0}
RECIPES = {"efficient": EFFICIENT_RESNET, "mixed": EFFICIENT_RESNET.override(MIXED), "fast": FAST}
TINY = {"train.batch_size": 16, "model.blocks": [1, 1]}


@dataclass(frozen=True)
class Way:
    """Way of executing training steps; `is_textbook`: by a plain loop with its images on the device."""

    title: str
    recipe: str = "efficient"
    is_textbook: bool = False
    precision: str = "bf16"
    graph: bool = False
    compile: bool = False


LAB = Way("lab, bf16")
GRAPH = Way("lab, graph", graph=True)
BEST = Way("lab, graph + compiled", graph=True, compile=True)
PLAIN = Way("textbook, images on the device, TF32", is_textbook=True, precision="tf32")
LOADER = Way("textbook, PIL images, loader with workers", is_textbook=True, precision="tf32")
NHWC = Way("textbook, images on the device, bf16 channels_last", is_textbook=True)
WAYS = (PLAIN, LAB, GRAPH, BEST, NHWC, Way("lab, compiled", compile=True), Way("lab, fp32", precision="fp32"))
PRICES = tuple(
    Way(f"{recipe}: {way.title}", recipe=recipe, graph=way.graph)
    for recipe in ("mixed", "fast")
    for way in (LAB, GRAPH)
)


@cache
def noise(images: int) -> Dataset:
    """Return a data set of random pixels: arithmetic on zeros is faster than on images."""
    rng, tested = np.random.default_rng(0), images // 5
    return Dataset(
        name="noise", kind="synthetic", classes=tuple("abcdefghij"), hash="noise",
        train_images=rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8), train_labels=np.arange(images) % 10,
        test_images=rng.integers(0, 256, (tested, 32, 32, 3), dtype=np.uint8), test_labels=np.arange(tested) % 10,
    )  # fmt: skip


def images_of(pack: Pack) -> Dataset:
    return noise(pack.size(50_000, 200))


def recipe_of(pack: Pack, name: str, width: int, **diff: Any) -> Recipe:
    """Return a recipe at a width; a tiny run has a small network and small batches."""
    return RECIPES[name].override({**pack.size({}, TINY), "model.width": width, **diff})


def flops_of(recipe: Recipe) -> float:
    """Return the floating-point operations of a training step: six for each multiply-accumulate of an image."""
    return 6.0 * network_cost(recipe.model).macs * recipe.train.batch_size


def trainer_of(pack: Pack, recipe: Recipe, precision: str = "bf16") -> Trainer:
    """Return a trainer as a worker makes one."""
    parts = split(images_of(pack), recipe.data, recipe.train.protocol, pack.device)
    net = build_resnet(recipe.model, seed=0, device=pack.device)
    whiten(net, parts.train, recipe.data)
    return Trainer(recipe, 0, net, parts, precision)


class Lab:
    """Steps of the lab, over the whole batches of an epoch again and again."""

    def __init__(self, pack: Pack, way: Way, recipe: Recipe) -> None:
        self.trainer = trainer_of(pack, recipe, way.precision)
        if way.compile:
            self.trainer.forward = compiled(self.trainer.net)
        self.stepper = Stepper(self.trainer, graph=way.graph)
        self.whole = len(self.trainer.split.train) // recipe.train.batch_size
        self.stepper.begin_epoch()

    def around(self) -> AbstractContextManager[None]:
        """Have everything in the context on the stream that the graphs are captured on."""
        return self.stepper.on_its_stream()

    def prepare(self, steps: int) -> None:
        """Begin the epoch anew, outside of what is timed, if it has fewer than `steps` whole batches left."""
        if self.trainer.step + steps > self.whole:
            self.trainer.step = 0
            self.stepper.begin_epoch()

    def __call__(self) -> None:
        self.prepare(1)
        self.stepper.take()
        self.trainer.step += 1

    def close(self) -> None:
        self.stepper.close()

    @property
    def remark(self) -> str:
        """Say why a graph that was asked for was not captured."""
        return "" if self.stepper.captured else self.stepper.refused


class Textbook:
    """The plain loop of tutorials with all images on the device: crop, flip, SGD, clipping, Lookahead, `loss.item()`.

    TF32 is torch's own default: convolutions in TF32, the classifier in fp32, NCHW.
    """

    remark = ""

    def __init__(self, pack: Pack, way: Way, recipe: Recipe) -> None:
        import plain_loop

        self.device, self.batch, self.train_epoch = pack.device, recipe.train.batch_size, plain_loop.train_epoch
        self.prepare_batches(images_of(pack), recipe)
        self.net = plain_loop.network(recipe, 0).to(pack.device)
        if way.precision == "bf16":
            self.net.memory_format = torch.channels_last  # in which the network lays out its images, too
            self.net = self.net.to(memory_format=torch.channels_last)
            forward = torch.autocast(pack.device.type, dtype=torch.bfloat16)(self.net.forward)
            self.net.forward = lambda images: forward(images).float()
        self.optimizer, self.lookahead = plain_loop.tools(self.net, recipe)
        self.threshold = recipe.optim.clip.threshold

    def prepare_batches(self, data: Dataset, recipe: Recipe) -> None:  # noqa: ARG002 (a loader's is another)
        mean, std = (torch.tensor(each, device=self.device).view(3, 1, 1) for each in (MEAN, STD))
        pixels = torch.from_numpy(data.train_images).to(self.device).permute(0, 3, 1, 2).float() / 255
        self.images = F.pad((pixels - mean) / std, (4, 4, 4, 4))
        self.labels = torch.from_numpy(data.train_labels).to(self.device)
        self.order, self.at = torch.randperm(len(self.labels), device=self.device), 0
        self.side = torch.arange(32, device=self.device)
        self.channels = torch.arange(3, device=self.device).view(1, 3, 1, 1)

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Return the images of a batch, each with a crop and a flip of its own, in one gather, and their labels."""
        if self.at + self.batch > len(self.order):
            self.order, self.at = torch.randperm(len(self.order), device=self.device), 0
        rows = self.order[self.at : self.at + self.batch]
        self.at += self.batch
        top, left = torch.randint(0, 9, (2, len(rows), 1), device=self.device)
        mirrored = torch.rand(len(rows), 1, device=self.device) < 0.5
        columns = left + torch.where(mirrored, 31 - self.side, self.side)
        images = self.images[
            rows.view(-1, 1, 1, 1), self.channels, (top + self.side)[:, None, :, None], columns[:, None, None, :]
        ]
        return images, self.labels[rows]

    def around(self) -> AbstractContextManager[None]:
        return nullcontext()

    def prepare(self, steps: int) -> None: ...
    def close(self) -> None: ...

    def __call__(self) -> None:
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
        self.train_epoch(self.net, [self.next_batch()], self.optimizer, self.lookahead, self.threshold)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True


class Loader(Textbook):
    """The loop of tutorials with its loader: PIL images and half as many worker processes as cores, from 2 to 8."""

    def prepare_batches(self, data: Dataset, recipe: Recipe) -> None:
        import plain_loop

        part = split(data, recipe.data, recipe.train.protocol, torch.device("cpu")).train
        self.batches = iter(())
        self.loader = plain_loop.loader(
            part, self.batch, train=True, num_workers=max(2, min(8, (os.cpu_count() or 2) // 2)), drop_last=True,
            persistent_workers=True, pin_memory=self.device.type == "cuda",
        )  # fmt: skip

    def next_batch(self) -> tuple[Tensor, Tensor]:
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        images, labels = batch
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


Steps = Lab | Textbook


def begin(pack: Pack, way: Way, width: int) -> Steps:
    """Return the steps of `way`, warmed up: kernels are chosen, compiled and captured."""
    kind = Loader if way == LOADER else Textbook if way.is_textbook else Lab
    steps = kind(pack, way, recipe_of(pack, way.recipe, width))
    with steps.around():
        repeat(steps, pack.size(15, 1))
    return steps


def repeat(step: Callable[[], object], count: int) -> None:
    for _ in range(count):
        step()

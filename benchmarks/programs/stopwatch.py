"""Timing of steps in a steady state, and the arguments, recipe and images that the programs share."""

from __future__ import annotations

import itertools
import json
import time
from argparse import ArgumentParser
from dataclasses import replace

import numpy as np
import torch

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.data.splits import Split, split


class Stopwatch:
    """Call `tick` after each step. After `warmup` steps, `steps` steps are timed."""

    def __init__(self, warmup: int, steps: int) -> None:
        assert warmup >= 1, "the first step is never a usual one"
        self._warmup, self._steps, self._images = warmup, steps, 0
        self._ends: list[float] = []

    def tick(self, images: int) -> None:
        """Record a finished step on so many images."""
        self._ends.append(time.perf_counter())
        self._images += images * (len(self._ends) > self._warmup)

    @property
    def is_done(self) -> bool:
        return len(self._ends) >= self._warmup + self._steps

    def numbers(self) -> dict[str, float]:
        """Return the rate over all timed steps, and their maximum duration in seconds."""
        counted = self._ends[self._warmup - 1 :]
        longest = max(end - begin for begin, end in itertools.pairwise(counted))
        return {
            "images_per_second": self._images / (counted[-1] - counted[0]), "longest_step_seconds": longest,
        }  # fmt: skip


def say(numbers: dict[str, float]) -> None:
    """Print the numbers as the last line of a program."""
    print(f"\n{json.dumps(numbers)}", flush=True)


def arguments(description: str | None) -> ArgumentParser:
    """Return a parser of the common arguments."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--width", type=int, default=16, help="of the Efficient ResNet; 64 is the writeup's")
    parser.add_argument("--data", default="synthetic", help="synthetic, or a folder or zip of images")
    parser.add_argument("--warmup", type=int, default=5, help="steps before those that are timed")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--evaluate", type=int, default=0, help="images to evaluate, instead of training steps")
    return parser


def recipe_of(width: int) -> Recipe:
    """Return the writeup's Efficient ResNet at another width."""
    return EFFICIENT_RESNET.override({"model.width": width})


def parts_of(source: str, recipe: Recipe, images: int) -> Split:
    """Return the images of `source`, repeated until an epoch has as many as wanted besides val; only for timing."""
    dataset = load(source)
    count = max(len(dataset.train_labels), images + images // 4)
    repeated = replace(
        dataset, train_images=np.resize(dataset.train_images, (count, 32, 32, 3)),
        train_labels=np.resize(dataset.train_labels, count),
    )  # fmt: skip
    return split(repeated, recipe.data, recipe.train.protocol, torch.device("cpu"))

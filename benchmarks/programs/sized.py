"""Recipe and images shared by the programs."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace

import numpy as np

from cifar_lab.config.recipe import EFFICIENT_RESNET, Recipe
from cifar_lab.data import load
from cifar_lab.data.dataset import Dataset

MIX = {"data.mixup": 0.2, "data.cutmix": 1.0}
"""Alphas that their authors use on CIFAR-10 and on most: Zhang et al. (2018) 0.1 to 0.4, Yun et al. (2019) 1."""


def arguments(description: str | None, *, steady: bool = True) -> ArgumentParser:
    """Return a parser of the common arguments; with `steady`, also warm-up and steps."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--width", type=int, default=16, help="of the Efficient ResNet; 64 is the writeup's")
    parser.add_argument("--data", default="synthetic", help="synthetic, or a folder or zip of images")
    if steady:
        parser.add_argument("--warmup", type=int, default=5, help="steps before those that are timed")
        parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    return parser


def recipe_of(width: int, **diff: object) -> Recipe:
    """Return the writeup's Efficient ResNet at another width."""
    return EFFICIENT_RESNET.override({"model.width": width, **diff})


def repeated(source: str, train: int) -> Dataset:
    """Return the images of `source`, repeated until an epoch has `train` images besides val; only for timing."""
    dataset = load(source)
    count = max(len(dataset.train_labels), train + train // 4)
    images, labels = np.resize(dataset.train_images, (count, 32, 32, 3)), np.resize(dataset.train_labels, count)
    return replace(dataset, train_images=images, train_labels=labels)

"""Draw images under each augmentation policy: a row for each policy, a column for each image.

    python benchmarks/augmented_images.py --data cifar10-jpeg.zip --draw docs/pictures/policies.png

The first row shows the images as they are; crop and flip precede each policy, as in training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from cifar_lab.config import recipe
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.data.augmentation import augment, draw_epoch

COLUMNS, COLOURS = 8, 96
RAW = {"data.crop": 0, "data.flip": False}
POLICY = "data.policy.name"
ROWS: dict[str, dict[str, object]] = {
    "as it is": RAW,
    "crop and flip": {},
    "AutoAugment": {POLICY: "autoaugment"},
    "RandAugment": {POLICY: "randaugment"},
    "TrivialAugment": {POLICY: "trivialaugment"},
    "AugMix": {POLICY: "augmix"},
    "random erasing": {"data.random_erasing.probability": 1.0},
    "Cutout": {"data.cutout": 16},
    "MixUp": {"data.mixup": 1.0},
    "CutMix": {"data.cutmix": 1.0},
}


def augmented(images: torch.Tensor, data: recipe.DataConfig, seed: int) -> torch.Tensor:
    """Return the images, (N, side, side, 3) uint8, in their order, as a network gets them, in [0, 1]."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    draws = draw_epoch(data, len(images), seed=seed, epoch=0, side=images.shape[1])
    made, _ = augment(images[draws.order], labels, draws, data)
    return made[draws.order.argsort()].permute(0, 2, 3, 1).clamp(0, 1)


def draw(images: torch.Tensor, path: Path, seed: int) -> None:
    figure = Figure(figsize=(COLUMNS * 0.72 + 1.3, len(ROWS) * 0.72), dpi=90)
    grid = figure.subplots(len(ROWS), COLUMNS, squeeze=False)
    figure.subplots_adjust(left=1.3 / figure.get_figwidth(), right=1, bottom=0, top=1, wspace=0.04, hspace=0.04)
    for row, (name, diff) in zip(grid, ROWS.items(), strict=True):
        data = Recipe().override({"data.normalise": False, **diff}).data
        for axes, image in zip(row, augmented(images, data, seed), strict=True):
            axes.imshow(image.numpy(), interpolation="nearest")
            axes.set_axis_off()
        row[0].text(-0.08, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    figure.savefig(path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic", help="images, as `--data` of the commands takes them")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument("--draw", type=Path, required=True, help="the PNG file")
    asked = parser.parse_args()
    dataset = load(asked.data)
    classes = range(min(COLUMNS, len(dataset.classes)))
    firsts = [int((dataset.train_labels == label).nonzero()[0][0]) for label in classes]
    draw(torch.from_numpy(np.ascontiguousarray(dataset.train_images[firsts])), asked.draw, asked.seed)

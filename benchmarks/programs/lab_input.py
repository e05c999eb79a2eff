"""Measure the images per second of the lab's input alone: draws of an epoch, then batches selected, cropped, flipped,
normalised, and with `--mix` mixed by MixUp and CutMix, on all threads.
"""

from __future__ import annotations

import time

import torch
from sized import MIX, arguments, recipe_of, repeated
from stopwatch import say

from cifar_lab.data import augmentation
from cifar_lab.data.splits import split
from cifar_lab.execution.settings import choose_execution, prepare_process


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--mix", action="store_true", help="with MixUp and CutMix")
    asked = parser.parse_args()
    recipe = recipe_of(asked.width, **(MIX if asked.mix else {}))
    prepare_process(choose_execution("cpu", "1", cells=1)[0])
    batch = recipe.train.batch_size
    dataset = repeated(asked.data, (asked.warmup + asked.steps + 1) * batch)
    part = split(dataset, recipe.data, recipe.train.protocol, torch.device("cpu")).train

    def epoch(number: int, steps: int) -> tuple[int, float]:
        """Return the number of images, and their seconds; the epoch's draws count in proportion to the images."""
        began = time.perf_counter()
        draws = augmentation.draw_epoch(recipe.data, len(part), seed=0, epoch=number)
        drawn = time.perf_counter()
        images = 0
        for step in range(steps):
            here = draws[step * batch : (step + 1) * batch]
            images += len(augmentation.augment(*part.take(here.order), here, recipe.data)[0])
        return images, time.perf_counter() - drawn + (drawn - began) * images / len(part)

    epoch(0, asked.warmup)
    images, seconds = epoch(1, asked.steps)
    say({"images_per_second": images / seconds})


if __name__ == "__main__":
    main()

"""Measure the processor time in which the images of one epoch are drawn for and augmented, by one thread.

Whatever is named besides the number of images is an override of the recipe, as on the command line. The images are
noise: no operation's time depends on them. A few batches before the timed epoch fill caches. Time in which the thread
waits for a processor is not counted.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser

import torch
from stopwatch import say

from cifar_lab.config import recipe
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.data.augmentation import augment, draw_epoch

BATCH = EFFICIENT_RESNET.train.batch_size


def augment_epoch(data: recipe.DataConfig, images: torch.Tensor, number: int) -> dict[str, float]:
    """Return the seconds of the draws, and of both draws and augmentation in batches."""
    labels = torch.arange(len(images)) % 10
    began = time.process_time()
    draws = draw_epoch(data, len(images), seed=0, epoch=number)
    drawn = time.process_time()
    for first in range(0, len(images), BATCH):
        here = draws[first : first + BATCH]
        augment(images[here.order], labels[here.order], here, data)
    return {"draw_seconds": drawn - began, "seconds": time.process_time() - began}


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=45_000, help="images of the epoch")
    parser.add_argument("overrides", nargs="*", help="path=value of the recipe")
    asked = parser.parse_args()
    wanted = EFFICIENT_RESNET.override(parse_overrides(asked.overrides))
    shape = (asked.images, 32, 32, 3)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(1)
    augment_epoch(wanted.data, noise[: 8 * BATCH], 0)
    say(augment_epoch(wanted.data, noise, 1))

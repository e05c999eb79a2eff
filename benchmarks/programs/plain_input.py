"""Measure the images per second of the plain loop's DataLoader alone: PIL, two workers, no network.

With `--mix` its batches are mixed in the workers, as torchvision's guide to CutMix and MixUp does it: one of the two
a batch, in `collate_fn`.
"""

from __future__ import annotations

import torch
from plain_loop import loader
from sized import MIX, arguments, recipe_of, repeated
from stopwatch import Stopwatch, say
from torch.utils.data import default_collate
from torchvision.transforms import v2

from cifar_lab.data.splits import split

CLASSES = 10
MIXED = v2.RandomChoice(
    [v2.CutMix(num_classes=CLASSES, alpha=MIX["data.cutmix"]), v2.MixUp(num_classes=CLASSES, alpha=MIX["data.mixup"])]
)


def mixed(samples: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return MIXED(*default_collate(samples))  # type: ignore[no-any-return]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--mix", action="store_true", help="with CutMix and MixUp")
    asked = parser.parse_args()
    recipe = recipe_of(asked.width)
    batch = recipe.train.batch_size
    dataset = repeated(asked.data, (asked.warmup + asked.steps + 1) * batch)
    parts = split(dataset, recipe.data, recipe.train.protocol, torch.device("cpu"))
    watch = Stopwatch(asked.warmup, asked.steps)
    for images, _ in loader(parts.train, batch, train=True, **({"collate_fn": mixed} if asked.mix else {})):
        watch.tick(len(images))
        if watch.is_done:
            break
    say(watch.numbers())


if __name__ == "__main__":
    main()

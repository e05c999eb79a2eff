"""Measure the images per second of the lab's evaluation, and the number of views of each image."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from lab_loop import trainer_of
from sized import arguments, recipe_of
from stopwatch import say

from cifar_lab.train.evaluate import evaluate


def main() -> None:
    parser = arguments(__doc__, steady=False)
    parser.add_argument("--images", type=int, default=4000, help="images to evaluate")
    asked = parser.parse_args()
    recipe = recipe_of(asked.width)
    trainer, _ = trainer_of(recipe, asked.data, asked.images)
    part = replace(trainer.split.train, index=trainer.split.train.index[: asked.images])
    first = replace(part, index=part.index[:500])
    evaluate(trainer.net, first, recipe.data, trainer.precision)  # the first batch is a warm-up
    seen = 0

    def count(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])

    trainer.net.register_forward_pre_hook(count)
    began = time.perf_counter()
    evaluate(trainer.net, part, recipe.data, trainer.precision)
    seconds = time.perf_counter() - began
    say({"images_per_second": len(part) / seconds, "passes": seen / len(part)})


if __name__ == "__main__":
    main()

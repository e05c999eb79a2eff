"""Measure the images per second of the plain loop's evaluation: fp32, NCHW, DataLoader with two workers."""

from __future__ import annotations

import time

import torch
from plain_loop import evaluate, loader, network
from sized import arguments, recipe_of, repeated
from stopwatch import say

from cifar_lab.data.splits import split


def main() -> None:
    parser = arguments(__doc__, steady=False)
    parser.add_argument("--images", type=int, default=4000, help="images to evaluate")
    asked = parser.parse_args()
    recipe = recipe_of(asked.width)
    parts = split(repeated(asked.data, asked.images), recipe.data, recipe.train.protocol, torch.device("cpu"))
    part = type(parts.train)(parts.train.images, parts.train.labels, parts.train.index[: asked.images])
    net, batches = network(recipe, 0), loader(part, recipe.train.batch_size, train=False)
    with torch.no_grad():
        net.eval()(torch.zeros(recipe.train.batch_size, 3, 32, 32))  # the first batch is a warm-up
    began = time.perf_counter()
    evaluate(net, batches)
    say({"images_per_second": len(part) / (time.perf_counter() - began)})


if __name__ == "__main__":
    main()

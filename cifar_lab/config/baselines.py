"""The baselines of the built-in ablations."""

from __future__ import annotations

from cifar_lab.config.recipe import Recipe

EFFICIENT_RESNET = Recipe()
"""Table 1 of the writeup: [4, 4, 3], SE after the stem, Lookahead(SGD), cosine: 4,697,742 parameters."""

RESNET18 = Recipe().override(
    {
        "model.blocks": (2, 1, 1, 1), "model.se.placement": "none", "optim.name": "sgd_nesterov",
        "optim.lookahead.enabled": False, "schedule.name": "constant", "train.epochs": 100,
    }
)  # fmt: skip
"""Stage 1 of the writeup: ResNet-18 with blocks [2, 1, 1, 1], 4,977,226 parameters. Its 100 epochs are our choice."""

FAST = EFFICIENT_RESNET.override(
    {
        "model.stem": "whitening",
        "data.alternating_flip": True,
        "optim.name": "muon",
        "optim.lr": 0.05,
        "optim.momentum": 0.95,
        "optim.weight_decay": 0.1,
        "optim.decay_norms": False,
        "optim.lookahead.enabled": False,
        "optim.clip.by": "none",
        "schedule.name": "linear",
        "schedule.every": "step",
        "schedule.warmup": 0.1,
        "train.label_smoothing": 0.1,
        "train.ema": 0.99,
        "train.tta": "flip_shift",
    }
)
"""The same blocks and channels for few epochs, with methods of CIFAR-10 speed runs (Page, 2018; Jordan, 2024).

Rate, decay, batch size and average are the best of nine trials of two epochs at width 16, on val (docs/log.md)."""

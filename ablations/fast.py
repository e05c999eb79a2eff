"""Contribution of each part of the fast recipe, in few epochs.

Source: speed runs on CIFAR-10, which add parts one after the other, each run with another network (Page, 2018, How
to train your ResNet; Jordan, 2024, arXiv:2404.00498). Here each part alone is removed from the full recipe, on the
writeup's network, and replaced by the writeup's choice: the optimizer with its rate, momentum and decay, the schedule
without warm-up. Lookahead and clipping, which the fast recipe lacks, are added one at a time. `efficient` is the
recipe of the writeup's Table 1, in as many epochs. The gain of a single part on top of that recipe is not measured.
Test-time augmentation is not a variant, as it does not affect training: the table shows the accuracy of one view.

Run time: 43 PFLOP a cell, 33 cells; `cifar-lab plan fast` says what that is on your machine.
"""

from cifar_lab import FAST, Ablation, Variant

SGD = {"optim.name": "sgd", "optim.lr": 0.1, "optim.momentum": 0.9, "optim.weight_decay": 5e-4}
COSINE = {"schedule.name": "cosine", "schedule.every": "epoch", "schedule.warmup": 0.0}
PARTS = {
    "model.stem": "conv",
    "data.alternating_flip": False,
    "train.label_smoothing": 0.0,
    "optim.decay_norms": True,
    "train.ema": 0.0,
    "train.tta": "none",
}
REST = {"optim.lookahead.enabled": True, "optim.clip.by": "value"}
EFFICIENT = SGD | COSINE | PARTS | REST

ABLATION = Ablation(
    question="What does each part of the fast recipe bring?",
    source="speed runs on CIFAR-10 (Page, 2018; Jordan, 2024); the writeup's network",
    baseline=FAST,
    factors=tuple(EFFICIENT),
    variants=(
        Variant(name="fast"),
        Variant(name="sgd", diff=SGD),
        Variant(name="cosine", diff=COSINE),
        Variant(name="conv_stem", diff={"model.stem": "conv"}),
        Variant(name="random_flip", diff={"data.alternating_flip": False}),
        Variant(name="hard_labels", diff={"train.label_smoothing": 0.0}),
        Variant(name="decay_norms", diff={"optim.decay_norms": True}),
        Variant(name="no_average", diff={"train.ema": 0.0}),
        Variant(name="lookahead", diff={"optim.lookahead.enabled": True}),
        Variant(name="clip", diff={"optim.clip.by": "value"}),
        Variant(name="efficient", diff=EFFICIENT),
    ),
    control="fast",
)

"""What does each part of the fast recipe bring, in few epochs?

Source: speed runs on CIFAR-10, which give parts their credit one on top of the other, each run with another network
(Page, 2018, How to train your ResNet; Jordan, 2024, arXiv:2404.00498). Here each part alone is taken out of the whole,
on the writeup's network: in its place stands what the writeup has, of the optimizer with its rate, momentum and decay,
of the schedule without warm-up. Lookahead and clipping, which the whole is without, are put back one at a time.
`efficient` has all of the writeup's Table 1, in as many epochs. What a part brings alone on top of that is another
question. Test-time augmentation is no variant, for it trains nothing: the table has the accuracy of one view beside it.

Run time: 43 PFLOP a cell, 33 cells; `cifar-lab plan fast` says what that is on your machine.
"""

from cifar_lab.ablation import Ablation, Variant
from cifar_lab.recipe import FAST

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

"""What does each part of the fast recipe bring, in few epochs?

Source: speed runs on CIFAR-10, which give parts their credit one on top of the other, each run with another network
(Page, 2018, How to train your ResNet; Jordan, 2024, arXiv:2404.00498). Here each part is taken out of the whole alone,
on the writeup's network. `sgd` has the writeup's rate, momentum and decay; `cosine` its schedule, without warm-up;
`efficient` all of its Table 1, in as many epochs. What a part brings alone on top of `efficient` is another question.

Run time: 43 PFLOP a cell, 30 cells; `cifar-lab plan fast` says what that is on your machine.
"""

from cifar_lab.ablation import Ablation, Variant
from cifar_lab.recipe import EFFICIENT_RESNET, FAST

PARTS = {path: value for path, value in EFFICIENT_RESNET.flat().items() if FAST.flat()[path] != value}
SGD = ("optim.name", "optim.lr", "optim.momentum", "optim.weight_decay")
SCHEDULE = ("schedule.name", "schedule.every", "schedule.warmup")


def without(*paths: str) -> dict[str, object]:
    """As the writeup has it."""
    return {path: PARTS[path] for path in paths}


ABLATION = Ablation(
    question="What does each part of the fast recipe bring?",
    source="speed runs on CIFAR-10 (Page, 2018; Jordan, 2024); the writeup's network",
    baseline=FAST,
    factors=tuple(PARTS),
    variants=(
        Variant(name="fast"),
        Variant(name="sgd", diff=without(*SGD)),
        Variant(name="cosine", diff=without(*SCHEDULE)),
        Variant(name="conv_stem", diff=without("model.stem")),
        Variant(name="random_flip", diff=without("data.alternating_flip")),
        Variant(name="hard_labels", diff=without("train.label_smoothing")),
        Variant(name="decay_norms", diff=without("optim.decay_norms")),
        Variant(name="no_average", diff=without("train.ema")),
        Variant(name="no_tta", diff=without("train.tta")),
        Variant(name="efficient", diff=dict(PARTS)),
    ),
    control="fast",
)

"""Comparison of the fast recipe with the writeup's recipe trained for three times as many epochs.

Source: our question. Both train the writeup's network. The writeup's recipe has 600 epochs here, three times its own
200, so that a third of them is not few: at `--scale small` it has 30, and the fast recipe 10. `efficient_third`
separates the effect of the recipe from that of the length.

Run time: 43 to 129 PFLOP a cell, 9 cells; `cifar-lab plan fewer_epochs` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, FAST, Ablation, Variant

THIRD = 200
PARTS = {path: value for path, value in FAST.flat().items() if EFFICIENT_RESNET.flat()[path] != value}

ABLATION = Ablation(
    question="Is a third of the epochs enough for the fast recipe?",
    source="our question, to the writeup's Table 1",
    baseline=EFFICIENT_RESNET.override({"train.epochs": 3 * THIRD}),
    factors=(*PARTS, "train.epochs"),
    variants=(
        Variant(name="efficient"),
        Variant(name="efficient_third", diff={"train.epochs": THIRD}),
        Variant(name="fast_third", diff={**PARTS, "train.epochs": THIRD}),
    ),
    control="efficient",
)

"""Weight decay for the Efficient ResNet.

Source: the writeup calls L2 regularisation "crucial", says that it and augmentation "prevent overfitting", and uses
0.0005; it shows no run without it. Overfitting is judged by the gap between the accuracy on clean training images and
the watched one. A fifth and twice that value are our choice.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan weight_decay` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Claim, Variant

ABLATION = Ablation(
    question="How much weight decay does the Efficient ResNet need?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, factors it varied",
    baseline=EFFICIENT_RESNET,
    factors=("optim.weight_decay",),
    variants=(
        Variant(name="wd5e-4"),
        Variant(name="none", diff={"optim.weight_decay": 0.0}),
        Variant(name="wd1e-4", diff={"optim.weight_decay": 1e-4}),
        Variant(name="wd1e-3", diff={"optim.weight_decay": 1e-3}),
    ),
    control="wd5e-4",
    claims=(
        Claim(quote="crucial", source="L2 regularisation, on and off", better="wd5e-4", worse="none"),
        Claim(quote="prevent overfitting", source="L2 regularisation", better="wd5e-4", worse="none", metric="gap"),
    ),
)

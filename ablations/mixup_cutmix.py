"""Effect of MixUp, of CutMix and of both on the Efficient ResNet.

Source: the writeup says that they improve robustness and accuracy. `none` is its stage 5 and `both` its stage 8, for
which it has numbers; it shows no run with one alone. It gives no alpha: 1.0, as in `writeup_ladder`, is our choice.
With both, each image gets one of the two; each image draws its own λ here, public code one for each batch. Robustness
is not measured here.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan mixup_cutmix` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Claim, Variant

ABLATION = Ablation(
    question="Do MixUp and CutMix help, and is one of them enough?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, stages 5 and 8",
    baseline=EFFICIENT_RESNET,
    factors=("data.mixup", "data.cutmix"),
    variants=(
        Variant(name="none"),
        Variant(name="mixup", diff={"data.mixup": 1.0}),
        Variant(name="cutmix", diff={"data.cutmix": 1.0}),
        Variant(name="both", diff={"data.mixup": 1.0, "data.cutmix": 1.0}),
    ),
    control="none",
    claims=(
        Claim(
            quote="improves robustness and accuracy",
            source="stage 8 (97.08 %, peak) against stage 5 (95.87 %)",
            better="both",
            worse="none",
            size=1.21,
        ),
    ),
)

"""Effect of label smoothing on the Efficient ResNet.

Source: Szegedy et al. (2016), who used 0.1. The writeup trains without it and does not mention it, so there is no
claim; half and twice that value are our choice.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan label_smoothing` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Does label smoothing help the Efficient ResNet?",
    source="Szegedy et al. (2016), Rethinking the Inception Architecture; the writeup is silent",
    baseline=EFFICIENT_RESNET,
    factors=("train.label_smoothing",),
    variants=(
        Variant(name="none"),
        Variant(name="ls0.05", diff={"train.label_smoothing": 0.05}),
        Variant(name="ls0.1", diff={"train.label_smoothing": 0.1}),
        Variant(name="ls0.2", diff={"train.label_smoothing": 0.2}),
    ),
    control="none",
)

"""Interaction of the SE reduction ratio with Lookahead.

Source: the writeup introduced SE and Lookahead together (stage 5) and changed the ratio with Lookahead on (stage 9);
it does not cross them, which is our choice. Its claims about each alone belong to `se_ratio` and `lookahead`, which
share cells with this crossing, and are not repeated here.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan se_ratio_x_lookahead` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

R4 = {"model.se.reduction": 4}
OFF = {"optim.lookahead.enabled": False}

ABLATION = Ablation(
    question="Does the best SE reduction ratio depend on Lookahead?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, stages 5 and 9",
    baseline=EFFICIENT_RESNET,
    factors=(*R4, *OFF),
    variants=(
        Variant(name="r16-on"),
        Variant(name="r4-on", diff=R4),
        Variant(name="r16-off", diff=OFF),
        Variant(name="r4-off", diff={**R4, **OFF}),
    ),
    control="r16-on",
)

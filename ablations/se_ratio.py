"""Reduction ratio of the SE block of the Efficient ResNet.

Source: the writeup's stage 9, which repeated its best run (stage 8) with ratio 4 and saw it end lower.
The baseline is Table 1 without the MixUp and CutMix of stages 8 and 9, so that only the ratio varies; a claim made
with them is judged only by its direction here, unless they are set with `data.mixup=1.0 data.cutmix=1.0` (alpha 1.0
is our choice). The writeup does not name the stage at which SE "significantly improved" the network.

Run time: 43 PFLOP a cell, fifteen cells; `cifar-lab plan se_ratio` says what that is in hours on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Claim, Variant

ABLATION = Ablation(
    question="Which reduction ratio should the SE block after the stem have?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, stages 5, 8 and 9",
    baseline=EFFICIENT_RESNET,
    factors=("model.se.placement", "model.se.reduction"),
    variants=(
        Variant(name="none", diff={"model.se.placement": "none"}),
        Variant(name="r16"),
        Variant(name="r8", diff={"model.se.reduction": 8}),
        Variant(name="r4", diff={"model.se.reduction": 4}),
        Variant(name="r2", diff={"model.se.reduction": 2}),
    ),
    control="r16",
    claims=(
        Claim(
            quote="SE reduction ratio 4: lower than with the default ratio of 16",
            source="stage 9 against stage 8 (97.08 %)",
            better="r16",
            worse="r4",
            under={"data.mixup": 1.0, "data.cutmix": 1.0},
        ),
        Claim(quote="significantly improved", source="SE block with and without", better="r16", worse="none"),
    ),
)

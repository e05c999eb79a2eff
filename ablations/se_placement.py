"""Placement of squeeze-and-excitation: after the stem, in every block, or nowhere.

Source: the network of Table 1 has one SE block, after the stem (580 parameters); Hu et al. (2018) put one into every
block (36,448 parameters here). The writeup does not compare the two. The claim that SE "significantly improved" the
network belongs to `se_ratio`, which shares the cells of `stem` and `none`, and is not repeated here.

Run time: 43 PFLOP a cell, 9 cells; `cifar-lab plan se_placement` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Where should SE sit: after the stem, in every block, or nowhere?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, Table 1",
    baseline=EFFICIENT_RESNET,
    factors=("model.se.placement",),
    variants=(
        Variant(name="stem"),
        Variant(name="none", diff={"model.se.placement": "none"}),
        Variant(name="block", diff={"model.se.placement": "block"}),
    ),
    control="stem",
)

"""Accuracy of the Efficient ResNet as a function of its width.

Source: Table 1 has 64 channels; the writeup does not mention other widths, so there is no claim, and 32 and 48 are
our choice. 66 is the widest within the budget (4,995,554 parameters; 67 has 5,147,892).

Run time: 11 to 46 PFLOP a cell, 12 cells; `cifar-lab plan width` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="How much accuracy does the width buy?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, Table 1",
    baseline=EFFICIENT_RESNET,
    factors=("model.width",),
    variants=(
        Variant(name="w64"),
        Variant(name="w32", diff={"model.width": 32}),
        Variant(name="w48", diff={"model.width": 48}),
        Variant(name="w66", diff={"model.width": 66}),
    ),
    control="w64",
)

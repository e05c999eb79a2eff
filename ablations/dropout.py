"""Effect of dropout before the classifier of the Efficient ResNet.

Source: Table 1 has dropout 0; the writeup does not mention other rates, so there is no claim, and 0.1, 0.3 and 0.5
are our choice.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan dropout` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Does dropout before the classifier help?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, Table 1",
    baseline=EFFICIENT_RESNET,
    factors=("model.dropout",),
    variants=(
        Variant(name="none"),
        Variant(name="p0.1", diff={"model.dropout": 0.1}),
        Variant(name="p0.3", diff={"model.dropout": 0.3}),
        Variant(name="p0.5", diff={"model.dropout": 0.5}),
    ),
    control="none",
)

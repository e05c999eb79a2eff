"""Two, three or four layers, with equal numbers of blocks and similar numbers of parameters.

Source: Table 1 has 3 layers, of blocks [4, 4, 3] and 64 channels, while a ResNet-18 has 4; the writeup does not
compare them alone. One width for all would compare networks of 2 to 8 million parameters, unfairly for the fewest
layers; so width and blocks are both factors. Each network has 11 blocks, and their distribution and the width are
chosen, by us, to be close to 4,697,742 parameters: 4,676,176 with two layers, 4,671,565 with four. The costs still
differ: fewer layers mean more channels on larger images, 2.3 times the MACs with two layers, 0.55 times with four.

Run time: 24 to 99 PFLOP a cell, 9 cells; `cifar-lab plan layers` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Two, three or four layers, at like parameter counts?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, Table 1",
    baseline=EFFICIENT_RESNET,
    factors=("model.blocks", "model.width"),
    variants=(
        Variant(name="three"),
        Variant(name="two", diff={"model.blocks": (5, 6), "model.width": 96}),
        Variant(name="four", diff={"model.blocks": (3, 4, 3, 1), "model.width": 48}),
    ),
    control="three",
)

"""Number of residual blocks and layers of the ResNet-18 within five million parameters.

Source: the writeup cut ResNet-18 ([2, 2, 2, 2], over the budget) to [2, 1, 1, 1], and later chose [4, 4, 3].
None of the variants has SE, so that only the blocks vary. The 100 epochs at a constant rate are our choice: the
writeup gives none for this stage.

Run time: 7 to 24 PFLOP a cell, eighteen cells; `cifar-lab plan block_counts` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

QUOTE = "Decreasing residual blocks resulted in decreased accuracy"

ABLATION = Ablation(
    question="How many residual blocks, and in how many layers, serve best under the budget?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, stages 1 and 5",
    baseline=RESNET18,
    factors=("model.blocks",),
    variants=(
        Variant(name="b2222", diff={"model.blocks": (2, 2, 2, 2)}, over_budget=True),
        Variant(name="b2111"),
        Variant(name="b1111", diff={"model.blocks": (1, 1, 1, 1)}),
        Variant(name="b443", diff={"model.blocks": (4, 4, 3)}),
        Variant(name="b333", diff={"model.blocks": (3, 3, 3)}),
        Variant(name="b552", diff={"model.blocks": (5, 5, 2)}),
    ),
    control="b2111",
    claims=(
        Claim(quote=QUOTE, source="ResNet-18 cut to fit the budget", better="b2222", worse="b2111"),
        Claim(quote=QUOTE, source="blocks, as a general statement", better="b2111", worse="b1111"),
        Claim(quote=QUOTE, source="the same, in three layers", better="b443", worse="b333"),
    ),
)

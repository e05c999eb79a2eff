"""Effect of stochastic depth, blocks that are skipped at random, on the Efficient ResNet.

Source: Huang et al. (2016), Deep Networks with Stochastic Depth, skip block l of L with probability l / L times that of
the last block, and choose 0.5 for it, for networks of 110 and more layers. This one has 11 blocks, so we try less as
well: 0.1 and 0.2 are our choice. An image is skipped by itself, as in torchvision, and not the whole batch.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan stochastic_depth` says what that is on your machine. A block that
is skipped is computed all the same: in a batch some image needs it.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Does stochastic depth help a network of 11 blocks?",
    source="Huang, Sun, Liu, Sedra and Weinberger (2016), Deep Networks with Stochastic Depth",
    baseline=EFFICIENT_RESNET,
    factors=("model.stochastic_depth",),
    variants=(
        Variant(name="none"),
        Variant(name="p0.1", diff={"model.stochastic_depth": 0.1}),
        Variant(name="p0.2", diff={"model.stochastic_depth": 0.2}),
        Variant(name="p0.5", diff={"model.stochastic_depth": 0.5}),
    ),
    control="none",
)

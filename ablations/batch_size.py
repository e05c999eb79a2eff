"""Effect of the batch size, with and without scaling the learning rate.

Source: Table 1 has batches of 128 at a rate of 0.1; the writeup does not mention others, so there is no claim, and 32
and 512 are our choice. One rate for all would be unfair, so the rate is a factor, and scales with the batch (Goyal et
al., 2017; without their warm-up): 0.025 and 0.4. The variant with 512 at 0.1 shows the effect of the batch alone.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan batch_size` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="How large should a batch be, and must the learning rate follow?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, Table 1",
    baseline=EFFICIENT_RESNET,
    factors=("train.batch_size", "optim.lr"),
    variants=(
        Variant(name="b128"),
        Variant(name="b32", diff={"train.batch_size": 32, "optim.lr": 0.025}),
        Variant(name="b512", diff={"train.batch_size": 512, "optim.lr": 0.4}),
        Variant(name="b512-lr0.1", diff={"train.batch_size": 512}),
    ),
    control="b128",
)

"""Optimizers for the ResNet-18 under a cosine schedule, in equal numbers of epochs.

Source: our question. The writeup compared optimizers at the constant rate of its stage 1: its claim is judged in
`optimizers`, which has the same variants and says where their rates and decays come from. Here all of them use the
cosine schedule of stage 3, as an optimizer that is best at a constant rate need not be so where the rate falls.

Run time: 9 PFLOP a cell, 24 cells; `cifar-lab plan optimizers_cosine` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Variant

NAME, LR, MOMENTUM, DECAY = FACTORS = ("optim.name", "optim.lr", "optim.momentum", "optim.weight_decay")

ABLATION = Ablation(
    question="Which optimizer is best in equal epochs under a cosine schedule?",
    source="our question, to the writeup's stages 1 and 3",
    baseline=RESNET18.override({"schedule.name": "cosine"}),
    factors=FACTORS,
    variants=(
        Variant(name="sgd_nesterov"),
        Variant(name="sgd", diff={NAME: "sgd"}),
        Variant(name="adagrad", diff={NAME: "adagrad", LR: 0.01, DECAY: 0.0}),
        Variant(name="adam", diff={NAME: "adam", LR: 0.001, DECAY: 0.0}),
        Variant(name="adamw", diff={NAME: "adamw", LR: 0.001, DECAY: 0.05}),
        Variant(name="rmsprop", diff={NAME: "rmsprop", LR: 0.001, MOMENTUM: 0.0, DECAY: 0.0}),
        Variant(name="adadelta", diff={NAME: "adadelta", LR: 1.0, DECAY: 0.0}),
        Variant(name="muon", diff={NAME: "muon", LR: 0.02, MOMENTUM: 0.95, DECAY: 0.01}),
    ),
    control="sgd_nesterov",
)

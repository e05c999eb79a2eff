"""Optimizers for the ResNet-18 at a constant rate, in equal numbers of epochs.

Source: the writeup compared SGD, SGD with Nesterov momentum, Adagrad, Adam, "etc." at equal epochs and the settings of
its stage 1, whose rate is constant, and found SGD with Nesterov best. `optimizers_cosine` compares the same ones under
the cosine schedule of stage 3. It gives no rates for them. One rate and decay for all would be unfair, so each has its
usual ones, untuned, as SGD has: rate, momentum and decay are factors too. The adaptive optimizers have the rates of
their authors or of PyTorch. They have no decay, as L2 through a normaliser differs from SGD's decay (Loshchilov and
Hutter, 2019); adamw, which decouples it, has the 0.05 usual in vision. Momentum is 0 for rmsprop, as its author has
none: 0.9 would make its rate ten times as high. Muon has Jordan's 0.02, 0.95 and 0.01. AdamW, RMSprop and Adadelta
represent the "etc.", which is our reading; there is no claim about Muon, which is more recent.

Run time: 9 PFLOP a cell, 24 cells; `cifar-lab plan optimizers` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

NAME, LR, MOMENTUM, DECAY = FACTORS = ("optim.name", "optim.lr", "optim.momentum", "optim.weight_decay")
QUOTE = "SGD with Nesterov best"

ABLATION = Ablation(
    question="Which optimizer is best in equal epochs at a constant rate?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, factors it varied",
    baseline=RESNET18,
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
    claims=(
        Claim(quote=QUOTE, source="against SGD without it", better="sgd_nesterov", worse="sgd"),
        Claim(quote=QUOTE, source="against Adagrad", better="sgd_nesterov", worse="adagrad"),
        Claim(quote=QUOTE, source="against Adam", better="sgd_nesterov", worse="adam"),
        Claim(quote=QUOTE, source='against AdamW, if "etc." has it', better="sgd_nesterov", worse="adamw"),
        Claim(quote=QUOTE, source='against RMSprop, if "etc." has it', better="sgd_nesterov", worse="rmsprop"),
        Claim(quote=QUOTE, source='against Adadelta, if "etc." has it', better="sgd_nesterov", worse="adadelta"),
    ),
)

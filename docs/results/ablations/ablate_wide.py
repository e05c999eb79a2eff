"""Which of the settings that the search wide tuned matters?

Source: the best recipe of the study wide in the space writeup. Written by `cifar-lab ablate-best`.
"""

from cifar_lab.ablation import Ablation, Variant
from cifar_lab.recipe import Recipe

ABLATION = Ablation(
    question="Which of the settings that the search wide tuned matters?",
    source="the best recipe of the study wide in the space writeup",
    baseline=Recipe().override(
        {
            "model.blocks": [3, 3, 3],
            "model.width": 48,
            "model.shortcut_kernel": 3,
            "model.se.placement": "none",
            "optim.name": "muon",
            "optim.lr": 0.0148112862827,
            "optim.weight_decay": 0.00550216779428,
            "optim.clip.by": "none",
            "train.batch_size": 64,
        }
    ),
    factors=(
        "model.blocks",
        "model.width",
        "model.shortcut_kernel",
        "model.se.placement",
        "optim.name",
        "optim.lr",
        "optim.weight_decay",
        "train.batch_size",
        "optim.clip.by",
    ),
    variants=(
        Variant(name="best"),
        Variant(name="model.blocks", diff={"model.blocks": [4, 4, 3]}),
        Variant(name="model.width", diff={"model.width": 64}),
        Variant(name="model.shortcut_kernel", diff={"model.shortcut_kernel": 1}),
        Variant(name="model.se.placement", diff={"model.se.placement": "stem"}),
        Variant(
            name="optim.name",
            diff={"optim.name": "sgd", "optim.lr": 0.0740564314137, "optim.weight_decay": 0.000275108389714},
        ),
        Variant(name="lr-customary", diff={"optim.lr": 0.02}),
        Variant(name="decay-customary", diff={"optim.weight_decay": 0.01}),
        Variant(name="train.batch_size", diff={"train.batch_size": 128}),
        Variant(name="clip", diff={"optim.clip.by": "value"}),
        Variant(
            name="all_reverted",
            diff={
                "model.blocks": [4, 4, 3],
                "model.width": 64,
                "model.shortcut_kernel": 1,
                "model.se.placement": "stem",
                "optim.name": "sgd",
                "optim.lr": 0.1,
                "optim.weight_decay": 0.0005,
                "optim.clip.by": "value",
                "train.batch_size": 128,
            },
        ),
    ),
    control="best",
    seeds=(1, 2, 3),
)

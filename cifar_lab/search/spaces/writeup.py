"""Network, optimizer and augmentation, searched jointly within the budget.

Source: the factors that the writeup varied one by one, here all at once. Its final network is included: trial 0.
Rates and decays are multiples of the optimizer's usual ones (those of the ablation `optimizers`; adam's decay, which
is 0 there, is a fifth of SGD's), so that 1 is a fair start for each. Reduction ratios are suggested only with an SE
block. About half of random candidates are within 5,000,000 parameters.
"""

from cifar_lab import EFFICIENT_RESNET
from cifar_lab.search.dimension import Bundle, Choice, Integer, Real
from cifar_lab.search.space import Space

OPTIMIZER = "optim.name"
RATES = {"sgd": 0.1, "sgd_nesterov": 0.1, "adam": 0.001, "adamw": 0.001, "muon": 0.02}
DECAYS = {"sgd": 5e-4, "sgd_nesterov": 5e-4, "adam": 1e-4, "adamw": 0.05, "muon": 0.01}

SPACE = Space(
    question="Which network, optimizer and augmentation are best within the budget?",
    baseline=EFFICIENT_RESNET,
    dimensions=(
        Choice(path="model.blocks", values=((2, 1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 3), (5, 5, 2), (2, 2, 2, 2))),
        Integer(path="model.width", low=16, high=96, step=8),
        Choice(path="model.kernel", values=(3, 5)),
        Choice(path="model.shortcut_kernel", values=(1, 3)),
        Choice(path="model.se.placement", values=("none", "stem", "block")),
        Choice(path="model.se.reduction", values=(2, 4, 8, 16), when={"model.se.placement": ("stem", "block")}),
        Choice(path=OPTIMIZER, values=tuple(RATES)),
        Real(name="lr / customary", path="optim.lr", low=0.1, high=5.0, log=True, unit={OPTIMIZER: RATES}),
        Real(
            name="decay / customary", path="optim.weight_decay", low=0.1, high=10.0, log=True, unit={OPTIMIZER: DECAYS}
        ),
        Choice(path="train.batch_size", values=(64, 128, 256)),
        Choice(path="data.mixup", values=(0.0, 0.2, 1.0)),
        Choice(path="data.cutmix", values=(0.0, 0.5, 1.0)),
        Bundle(
            name="clip",
            options={
                "none": {"optim.clip.by": "none"},
                "value 0.1": {"optim.clip.by": "value", "optim.clip.threshold": 0.1},
                "norm 2": {"optim.clip.by": "norm", "optim.clip.threshold": 2.0},
            },
        ),
        Choice(path="optim.lookahead.enabled", values=(False, True)),
    ),
)

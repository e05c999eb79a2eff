"""Hyperparameters of the fast recipe: learning rate, decay, smoothing, weight averaging and batch size.

Source: our choice of ranges around the settings of Jordan's speed runs (2024). Of the network only the stem varies, so
no candidate is over the budget. Search with as many epochs as will be trained: the best setting for two epochs is not
the best for ten.
"""

from cifar_lab import FAST
from cifar_lab.search.dimension import Bundle, Choice, Real
from cifar_lab.search.space import Space

SPACE = Space(
    question="How is the fast recipe set?",
    baseline=FAST,
    dimensions=(
        Real(path="optim.lr", low=0.005, high=0.1, log=True),
        Real(path="optim.weight_decay", low=0.002, high=0.5, log=True),
        Choice(path="train.batch_size", values=(64, 128, 256)),
        Choice(path="train.label_smoothing", values=(0.0, 0.1, 0.2)),
        Choice(path="schedule.warmup", values=(0.02, 0.1, 0.25)),
        Bundle(
            name="average",
            options={
                "none": {"train.ema": 0.0, "optim.lookahead.enabled": False},
                "ema": {"train.ema": 0.99, "optim.lookahead.enabled": False},
                "lookahead": {"train.ema": 0.0, "optim.lookahead.enabled": True},
            },
        ),
        Choice(path="model.stem", values=("conv", "whitening")),
    ),
)

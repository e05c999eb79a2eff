"""Training hyperparameters of the Efficient ResNet, with a fixed network and augmentation.

Source: our choice of ranges around the usual rates and decays of the ablation `optimizers` (rmsprop's rate is a tenth
of the one there, as it has momentum here; decays that are 0 there are a fifth of SGD's). No dimension changes the
number of parameters, so no candidate is over the budget.
"""

from cifar_lab import EFFICIENT_RESNET
from cifar_lab.search.dimension import Bundle, Choice, Integer, Real
from cifar_lab.search.space import Space

NAME = "optim.name"
RATES = {
    "sgd": 0.1, "sgd_nesterov": 0.1, "adagrad": 0.01, "adam": 0.001, "adamw": 0.001, "rmsprop": 1e-4, "muon": 0.02,
}  # fmt: skip
DECAYS = {
    "sgd": 5e-4, "sgd_nesterov": 5e-4, "adagrad": 1e-4, "adam": 1e-4, "adamw": 0.05, "rmsprop": 1e-4, "muon": 0.01,
}  # fmt: skip

SPACE = Space(
    question="How is the Efficient ResNet best trained?",
    baseline=EFFICIENT_RESNET,
    dimensions=(
        Choice(path=NAME, values=tuple(RATES)),
        Real(name="lr / customary", path="optim.lr", low=0.05, high=10.0, log=True, unit={NAME: RATES}),
        Real(path="optim.momentum", low=0.7, high=0.98, when={NAME: ("sgd", "sgd_nesterov", "rmsprop", "muon")}),
        Real(name="decay / customary", path="optim.weight_decay", low=0.05, high=20.0, log=True, unit={NAME: DECAYS}),
        Bundle(
            name="clip",
            options={
                "none": {"optim.clip.by": "none"},
                "value 0.1": {"optim.clip.by": "value", "optim.clip.threshold": 0.1},
                "norm 2": {"optim.clip.by": "norm", "optim.clip.threshold": 2.0},
            },
        ),
        Choice(path="optim.lookahead.enabled", values=(False, True)),
        Integer(path="optim.lookahead.k", low=2, high=20, log=True, when={"optim.lookahead.enabled": (True,)}),
        Choice(path="schedule.name", values=("cosine", "one_cycle", "constant")),
        Choice(path="train.batch_size", values=(64, 128, 256)),
    ),
)

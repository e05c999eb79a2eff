"""Averages of the weights on the Efficient ResNet: Lookahead, an exponential moving average, SWA, or none.

Source: the writeup has Lookahead (Zhang et al., 2019) and does not compare it with others. Izmailov et al. (2018),
Averaging Weights Leads to Wider Optima and Better Generalization, train at a constant or cyclic rate from three
quarters of the epochs on, and keep the mean of the weights after each epoch. The rate is here the one that the cosine
has reached by then, 0.015, which is our choice. A decay of 0.999 a step, a horizon of about three epochs, is usual for
the moving average (Polyak and Juditsky, 1992); in a training of few epochs it has not left the first weights behind.
`none` is also the variant `off` of `lookahead`.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan weight_averaging` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

LOOKAHEAD, EMA, SWA = FACTORS = ("optim.lookahead.enabled", "train.ema", "train.swa.enabled")

ABLATION = Ablation(
    question="Which average of the weights is best?",
    source="Izmailov, Podoprikhin, Garipov, Vetrov and Wilson (2018), Averaging Weights Leads to Wider Optima",
    baseline=EFFICIENT_RESNET,
    factors=FACTORS,
    variants=(
        Variant(name="lookahead"),
        Variant(name="none", diff={LOOKAHEAD: False}),
        Variant(name="ema", diff={LOOKAHEAD: False, EMA: 0.999}),
        Variant(name="swa", diff={LOOKAHEAD: False, SWA: True}),
    ),
    control="lookahead",
)

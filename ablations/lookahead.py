"""Effect of Lookahead around SGD on the Efficient ResNet.

Source: the writeup wraps SGD in Lookahead (k = 5, α = 0.5) from stage 5 on and credits it with better exploration; it
shows no run without it. It does not say how exploration shows: we judge the final accuracy and, as a reading of our
own, the convergence (mean accuracy over all epochs).

Run time: 43 PFLOP a cell, six cells; `cifar-lab plan lookahead` says what that is in hours on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Claim, Variant

QUOTE = "more effective exploration"

ABLATION = Ablation(
    question="Does Lookahead around SGD help the Efficient ResNet?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, stage 5",
    baseline=EFFICIENT_RESNET,
    factors=("optim.lookahead.enabled",),
    variants=(
        Variant(name="on"),
        Variant(name="off", diff={"optim.lookahead.enabled": False}),
    ),
    control="on",
    claims=(
        Claim(quote=QUOTE, source="Lookahead, on and off", better="on", worse="off"),
        Claim(quote=QUOTE, source="read as convergence", better="on", worse="off", metric="convergence"),
    ),
)

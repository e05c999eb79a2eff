"""Effect of batch normalisation in the ResNet-18.

Source: the writeup removed it and found the network "equivalent or worse"; batch norm "helped with speeding up
convergence". The second statement is about the curve and not about its end, so its claim is about the mean accuracy
over all epochs. Without batch norm a rate of 0.1 may be too high for a fair comparison; so a variant with a tenth of
it is included, with the rate as a factor. The writeup gives no rate: both are our choice. Speed is claimed only for
`on` against `off`: against `off-lr0.01` it would compare two rates, and a lower rate is slower by itself.

Run time: 9 PFLOP a cell, 9 cells; `cifar-lab plan batch_norm` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

QUOTE, SOURCE = "equivalent or worse", "batch normalisation removed"
FASTER = "helped with speeding up convergence"

ABLATION = Ablation(
    question="Does the ResNet-18 need batch normalisation?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, factors it varied",
    baseline=RESNET18,
    factors=("model.batch_norm", "optim.lr"),
    variants=(
        Variant(name="on"),
        Variant(name="off", diff={"model.batch_norm": False}),
        Variant(name="off-lr0.01", diff={"model.batch_norm": False, "optim.lr": 0.01}),
    ),
    control="on",
    claims=(
        Claim(quote=QUOTE, source=SOURCE, better="on", worse="off", relation="not better"),
        Claim(quote=QUOTE, source=f"{SOURCE}, lower rate", better="on", worse="off-lr0.01", relation="not better"),
        Claim(quote=FASTER, source=SOURCE, better="on", worse="off", metric="convergence"),
    ),
)

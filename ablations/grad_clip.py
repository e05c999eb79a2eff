"""Effect of gradient clipping on the ResNet-18, by value and by norm.

Source: the writeup clips each element to ±0.1 and says that this speeds up convergence, above all in the first epochs.
That is about the curve and not about its end, so the claims are about the mean accuracy over all epochs and over the
first tenth of them. It shows no run without clipping, and none by norm. A norm of 2 is our choice: in twenty steps of
this baseline, clipped by value, the norm was 4.6 to 9.4 in the first six and about 1.4 from the eleventh on; at a
quarter of the width it fell from 2.3 to 1.2 within fifty. So 2 acts at the start, as ±0.1 does; the usual 1 would act
at most steps, like a lower rate.

Run time: 9 PFLOP a cell, 9 cells; `cifar-lab plan grad_clip` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

QUOTE, SOURCE = "speeds up convergence, above all in the first epochs", "clipped by value at 0.1, and not at all"

ABLATION = Ablation(
    question="Does gradient clipping help, and does it matter how?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, factors it varied",
    baseline=RESNET18,
    factors=("optim.clip.by", "optim.clip.threshold"),
    variants=(
        Variant(name="value0.1"),
        Variant(name="off", diff={"optim.clip.by": "none"}),
        Variant(name="norm2", diff={"optim.clip.by": "norm", "optim.clip.threshold": 2.0}),
    ),
    control="value0.1",
    claims=(
        Claim(quote=QUOTE, source=SOURCE, better="value0.1", worse="off", metric="convergence"),
        Claim(quote=QUOTE, source=SOURCE, better="value0.1", worse="off", metric="early convergence"),
    ),
)

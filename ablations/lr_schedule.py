"""Learning-rate schedules for the ResNet-18.

Source: the writeup lowered the rate later (stage 2), then took CosineAnnealingLR (stage 3), to converge to minima
rather than oscillate. That is judged by the accuracy, and by its oscillation: the deviation of the accuracy over the
last third of the epochs about its trend. Here all train for 100 epochs from scratch, which is our choice: stage 2
continued stage 1, as in `writeup_ladder`. `step` represents a smaller rate later: reduced to a tenth at 30, 60 and 90
% of the training. All have 0.1 as their highest rate. One-cycle changes with each step, as in its paper, as it would
otherwise begin with a whole epoch at 0.004; the others change once per epoch, as the writeup's cosine. Restarts occur
after each quarter.

Run time: 9 PFLOP a cell, 15 cells; `cifar-lab plan lr_schedule` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

QUOTE = "helps converge to minima rather than oscillate"

ABLATION = Ablation(
    question="Which learning-rate schedule serves best?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, stages 1 to 3",
    baseline=RESNET18,
    factors=("schedule.name", "schedule.every"),
    variants=(
        Variant(name="constant"),
        Variant(name="cosine", diff={"schedule.name": "cosine"}),
        Variant(name="step", diff={"schedule.name": "step"}),
        Variant(name="one_cycle", diff={"schedule.name": "one_cycle", "schedule.every": "step"}),
        Variant(name="warm_restarts", diff={"schedule.name": "warm_restarts"}),
    ),
    control="constant",
    claims=(
        Claim(quote=QUOTE, source="CosineAnnealingLR", better="cosine", worse="constant"),
        Claim(quote=QUOTE, source="a smaller rate later", better="step", worse="constant"),
        Claim(quote=QUOTE, source="CosineAnnealingLR", better="cosine", worse="constant", metric="oscillation"),
        Claim(quote=QUOTE, source="a smaller rate later", better="step", worse="constant", metric="oscillation"),
    ),
)

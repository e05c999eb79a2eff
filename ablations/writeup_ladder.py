"""Change of accuracy with each of the writeup's nine stages.

Source: the table of stages. Each stage is compared with the one before it; 2, 6 and 7 continue from the final weights
of another. The writeup gives no epochs for stages 1 to 4 and no rate for continued training: 100 epochs, 40 more, and
a tenth of the rate, with a cosine schedule, are our choices. Stage 5 trains without MixUp and CutMix, as 8 adds them.
Numbers with ≈ have a tolerance of one point, others of half a point: each is from a single run.

The writeup contradicts itself in two places. Clipping is part of stage 1 in its Methodology, and came with the lower
rate of stage 2 in its Result; SE came after the 95.87 % of stage 5 in its Methodology, and is part of it in its
Result. Here stage 1 clips, as in the Methodology, and stage 5 has SE, as in the Result. MixUp and CutMix are drawn per
image here, each with its own method and λ; public implementations draw one of each per batch.

Run time: 188 PFLOP a seed; `cifar-lab plan writeup_ladder` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

MIX = {"data.mixup": 1.0, "data.cutmix": 1.0}
EFFICIENT = {
    "model.blocks": (4, 4, 3), "model.se.placement": "stem", "optim.name": "sgd", "optim.lookahead.enabled": True,
    "schedule.name": "cosine", "train.epochs": 200,
}  # fmt: skip
FINER = {"optim.lr": 0.01, "schedule.name": "cosine"}

ABLATION = Ablation(
    question="Which of the writeup's nine stages moved the accuracy, and by how much?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, the stages",
    baseline=RESNET18,
    factors=(*EFFICIENT, *MIX, "optim.lr", "model.se.reduction"),
    variants=(
        Variant(name="s1"),
        Variant(name="s2", continues="s1", diff={**FINER, "train.epochs": 40}),
        Variant(name="s3", diff={"schedule.name": "cosine"}),
        Variant(name="s4", base="s3", diff=MIX),
        Variant(name="s5", diff=EFFICIENT),
        Variant(name="s6", continues="s5", diff={**MIX, "optim.lr": 0.01, "train.epochs": 100}),
        Variant(name="s7", continues="s6", diff={"train.epochs": 30}),
        Variant(name="s8", base="s5", diff=MIX),
        Variant(name="s9", base="s8", diff={"model.se.reduction": 4}),
    ),
    control="s1",
    chain=True,
    claims=(
        Claim(quote="≈ 88 %", source="stage 1", better="s1", relation="reaches", accuracy=88, tolerance=1),
        Claim(quote="≈ 92 %", source="stage 2", better="s2", relation="reaches", accuracy=92, tolerance=1),
        Claim(quote="≈ 92.5 %", source="stage 4", better="s4", relation="reaches", accuracy=92.5, tolerance=1),
        Claim(quote="95.87 %", source="stage 5", better="s5", relation="reaches", accuracy=95.87),
        Claim(quote="96.05 %", source="stage 6", better="s6", relation="reaches", accuracy=96.05),
        Claim(quote="96.07 %", source="stage 7", better="s7", relation="reaches", accuracy=96.07),
        Claim(quote="97.08 % (peak)", source="stage 8", better="s8", relation="reaches", accuracy=97.08),
        Claim(quote="smaller learning rate", source="stage 2 after 1", better="s2", worse="s1", size=4, tolerance=1),
        Claim(quote="similar", source="stage 3 beside stage 2", better="s3", worse="s2", relation="alike"),
        Claim(quote="≈ 92.5 % after ≈ 92 %", source="stage 4", better="s4", worse="s3", size=0.5, tolerance=1),
        Claim(quote="95.87 % after ≈ 92.5 %", source="stage 5", better="s5", worse="s4", size=3.37, tolerance=1),
        Claim(quote="96.05 % after 95.87 %", source="stage 6", better="s6", worse="s5", size=0.18),
        Claim(quote="96.07 % after 96.05 %", source="stage 7", better="s7", worse="s6", size=0.02),
        Claim(quote="97.08 % (peak) after 96.07 %", source="stage 8", better="s8", worse="s7", size=1.01),
        Claim(quote="lower than stage 8", source="stage 9, SE reduction 4", better="s8", worse="s9"),
    ),
)

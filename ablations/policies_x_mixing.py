"""Interaction of an augmentation policy with MixUp and CutMix.

Source: the writeup's stage 8 has MixUp and CutMix and no policy; TrivialAugment (Müller and Hutter, 2021,
arXiv:2103.10158) is the policy without parameters, and stands for the others. The crossing is our choice. Without
mixing, the cells are those of `policies`; without a policy, those of `mixup_cutmix`.

Run time: 43 PFLOP a cell, 12 cells; `cifar-lab plan policies_x_mixing` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

POLICY = {"data.policy.name": "trivialaugment"}
MIXING = {"data.mixup": 1.0, "data.cutmix": 1.0}

ABLATION = Ablation(
    question="Does an augmentation policy still help beside MixUp and CutMix?",
    source="Müller and Hutter (2021); Gupta, Pattanaik and Panchal (2024), stage 8",
    baseline=EFFICIENT_RESNET,
    factors=(*POLICY, *MIXING),
    variants=(
        Variant(name="none"),
        Variant(name="policy", diff=POLICY),
        Variant(name="mixing", diff=MIXING),
        Variant(name="policy-mixing", diff={**POLICY, **MIXING}),
    ),
    control="none",
)

"""Variation of one recipe's accuracy over random seeds.

No source: this is the reference for the other ablations. A difference that is small compared with this spread needs
many seeds to be detected.

Run time: 43 PFLOP a cell, ten cells; `cifar-lab plan noise_floor` says what that is in hours on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="How much does accuracy move when nothing but the seed does?",
    source="a yardstick of our own; the writeup reports single runs",
    baseline=EFFICIENT_RESNET,
    factors=(),
    variants=(Variant(name="control"),),
    control="control",
    seeds=tuple(range(10)),
)

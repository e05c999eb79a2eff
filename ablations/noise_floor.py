"""How much does the accuracy of one recipe move when nothing but the seed does?

No source: this is the yardstick for the other ablations. A difference that is small against this spread needs many
seeds before it means anything.

Run time: 43 PFLOP a cell, ten cells; `cifar-lab plan noise_floor` says what that is in hours on your machine.
"""

from cifar_lab.ablation import Ablation, Variant
from cifar_lab.recipe import EFFICIENT_RESNET

ABLATION = Ablation(
    question="How much does accuracy move when nothing but the seed does?",
    source="a yardstick of our own; the writeup reports single runs",
    baseline=EFFICIENT_RESNET,
    factors=(),
    variants=(Variant(name="control"),),
    control="control",
    seeds=tuple(range(10)),
)

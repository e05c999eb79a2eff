"""Effect of computing in bf16 instead of fp32.

Source: our question. The lab computes in bf16 if the device has units for it: convolutions and products round their
operands to 8 bits of mantissa, while weights and sums stay in fp32 (mixed precision as in Micikevicius et al., 2018,
arXiv:1710.03740; bf16 as in Kalamkar et al., 2019, arXiv:1905.12322, who found no loss). Both variants name their
precision, so that bf16 is used on every device; without hardware support it is emulated, and slow.

Run time: 43 PFLOP a cell, 6 cells; `cifar-lab plan precision` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="What does it cost to compute in bf16?",
    source="our question, to the writeup's Table 1",
    baseline=EFFICIENT_RESNET.override({"train.precision": "fp32"}),
    factors=("train.precision",),
    variants=(Variant(name="fp32"), Variant(name="bf16", diff={"train.precision": "bf16"})),
    control="fp32",
)

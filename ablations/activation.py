"""Effect of the activation of the Efficient ResNet.

Source: the writeup keeps the ReLU of He et al. (2016) and compares no other. Leaky ReLU (Maas et al., 2013), GELU
(Hendrycks and Gimpel, 2016), SiLU (Elfwing et al., 2018; Swish of Ramachandran et al., 2017) and Mish (Misra, 2019) are
smooth or let negative inputs through; their authors report gains over ReLU on CIFAR-10. Which of them to try is our
choice, and their constants are PyTorch's. Squeeze-and-excitation keeps its ReLU.

Run time: 43 PFLOP a cell, 15 cells; `cifar-lab plan activation` says what that is on your machine. The count has no
activations: the smooth ones cost time, Mish most on a processor, and memory that ReLU in place does not.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Is another activation better than ReLU?",
    source="Ramachandran, Zoph and Le (2017), Searching for Activation Functions, and the authors of the others",
    baseline=EFFICIENT_RESNET,
    factors=("model.activation",),
    variants=(
        Variant(name="relu"),
        Variant(name="leaky_relu", diff={"model.activation": "leaky_relu"}),
        Variant(name="gelu", diff={"model.activation": "gelu"}),
        Variant(name="silu", diff={"model.activation": "silu"}),
        Variant(name="mish", diff={"model.activation": "mish"}),
    ),
    control="relu",
)

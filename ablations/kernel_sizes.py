"""Kernel sizes of the ResNet-18: 1×1 in one layer at a time, and 5×5 in the first.

Source: the writeup tried "different convolution kernel sizes per layer" and does not say which; the sizes here, and
the 100 epochs at a constant rate, are our choice. A layer of 1×1 convolutions is far smaller, most of all the fourth
(1,831,498 parameters in all): compare the accuracies together with the counts. 5×5 in the first layer is over the
budget (5,239,370), as it would be in any other; it is trained for reference.

Run time: 5 to 16 PFLOP a cell, 18 cells; `cifar-lab plan kernel_sizes` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

QUOTE = "equivalent or worse"
SOURCE = "different kernel sizes per layer, which are not named"

ABLATION = Ablation(
    question="Which layer can do without 3×3 kernels, and does a 5×5 help?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, factors it varied",
    baseline=RESNET18,
    factors=("model.kernel",),
    variants=(
        Variant(name="k3333"),
        Variant(name="k1333", diff={"model.kernel": (1, 3, 3, 3)}),
        Variant(name="k3133", diff={"model.kernel": (3, 1, 3, 3)}),
        Variant(name="k3313", diff={"model.kernel": (3, 3, 1, 3)}),
        Variant(name="k3331", diff={"model.kernel": (3, 3, 3, 1)}),
        Variant(name="k5333", diff={"model.kernel": (5, 3, 3, 3)}, over_budget=True),
    ),
    control="k3333",
    claims=(
        Claim(quote=QUOTE, source=SOURCE, better="k3333", worse="k1333", relation="not better"),
        Claim(quote=QUOTE, source=SOURCE, better="k3333", worse="k3133", relation="not better"),
        Claim(quote=QUOTE, source=SOURCE, better="k3333", worse="k3313", relation="not better"),
        Claim(quote=QUOTE, source=SOURCE, better="k3333", worse="k3331", relation="not better"),
        Claim(quote=QUOTE, source=SOURCE, better="k3333", worse="k5333", relation="not better"),
    ),
)

"""Effect of each data augmentation on the Efficient ResNet.

Source: the writeup calls data augmentation "crucial": random crop, horizontal flip and normalisation; and says that it
and L2 "prevent overfitting". It shows no run without them. Overfitting is judged by the gap between the accuracy on
clean training images, which no variant crops or flips, and the watched one; normalisation is not said to act on it.
`none` keeps the normalisation, and `raw` omits it as well, so that each variant omits one more thing. Cutout, with the
16-pixel square that its authors use on CIFAR-10, is added to crop and flip; the writeup does not mention it.

Run time: 43 PFLOP a cell, 18 cells; `cifar-lab plan augmentation` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Claim, Variant

ABLATION = Ablation(
    question="Which augmentation does the Efficient ResNet need?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, factors it varied",
    baseline=EFFICIENT_RESNET,
    factors=("data.crop", "data.flip", "data.normalise", "data.cutout"),
    variants=(
        Variant(name="both"),
        Variant(name="none", diff={"data.crop": 0, "data.flip": False}),
        Variant(name="crop", diff={"data.flip": False}),
        Variant(name="flip", diff={"data.crop": 0}),
        Variant(name="raw", diff={"data.normalise": False}),
        Variant(name="cutout", diff={"data.cutout": 16}),
    ),
    control="both",
    claims=(
        Claim(quote="crucial", source="data augmentation: crop and flip", better="both", worse="none"),
        Claim(quote="crucial", source="normalisation, named among it", better="both", worse="raw"),
        Claim(quote="prevent overfitting", source="crop and flip", better="both", worse="none", metric="gap"),
    ),
)

"""Effect of a fully connected layer before the output of the ResNet-18.

Source: the writeup added one, which "didn't have much effect". It gives no width: 32, 48 and 128 are our choice, and
so are the ReLU after it and the 100 epochs. 48 is the widest of these within the budget (4,997,210 parameters; 64 has
5,005,578); 128 is over it (5,039,050), and trained for reference. Each is narrower than its 512 input features.

Run time: 9 PFLOP a cell, 12 cells; `cifar-lab plan extra_fc` says what that is on your machine.
"""

from cifar_lab import RESNET18, Ablation, Claim, Variant

QUOTE = "didn't have much effect"
SOURCE = "extra fully connected layer before the output, width not given"

ABLATION = Ablation(
    question="Does a fully connected layer before the output help?",
    source="Gupta, Pattanaik and Panchal (2024), ResNet Model for CIFAR-10 Image Classification, factors it varied",
    baseline=RESNET18,
    factors=("model.extra_fc",),
    variants=(
        Variant(name="none"),
        Variant(name="fc32", diff={"model.extra_fc": 32}),
        Variant(name="fc48", diff={"model.extra_fc": 48}),
        Variant(name="fc128", diff={"model.extra_fc": 128}, over_budget=True),
    ),
    control="none",
    claims=(
        Claim(quote=QUOTE, source=SOURCE, better="none", worse="fc32", relation="alike"),
        Claim(quote=QUOTE, source=SOURCE, better="none", worse="fc48", relation="alike"),
        Claim(quote=QUOTE, source=SOURCE, better="none", worse="fc128", relation="alike"),
    ),
)

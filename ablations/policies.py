"""Effect of augmentation policies and of random erasing on the Efficient ResNet.

Source: AutoAugment with its policy for CIFAR-10 (Cubuk et al., 2019, arXiv:1805.09501), RandAugment (Cubuk et al.,
2020, arXiv:1909.13719), TrivialAugment (Müller and Hutter, 2021, arXiv:2103.10158), AugMix (Hendrycks et al., 2020,
arXiv:1912.02781), random erasing (Zhong et al., 2020, arXiv:1708.04896). The writeup uses none of them. Each comes
after crop and flip. RandAugment has two operations of magnitude 9 of 30, as in torchvision; AugMix is the augmentation
without its consistency loss; erasing has the paper's probability of 1/2. AutoAugment's paper adds Cutout on CIFAR-10,
which is left out here, so that one thing changes at a time.

Run time: 43 PFLOP a cell, 18 cells; `cifar-lab plan policies` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Which augmentation policy serves the Efficient ResNet?",
    source="Cubuk et al. (2019, 2020), Müller and Hutter (2021), Hendrycks et al. (2020), Zhong et al. (2020)",
    baseline=EFFICIENT_RESNET,
    factors=("data.policy.name", "data.random_erasing.probability"),
    variants=(
        Variant(name="none"),
        Variant(name="autoaugment", diff={"data.policy.name": "autoaugment"}),
        Variant(name="randaugment", diff={"data.policy.name": "randaugment"}),
        Variant(name="trivialaugment", diff={"data.policy.name": "trivialaugment"}),
        Variant(name="augmix", diff={"data.policy.name": "augmix"}),
        Variant(name="erasing", diff={"data.random_erasing.probability": 0.5}),
    ),
    control="none",
)

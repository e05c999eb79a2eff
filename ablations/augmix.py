"""Effect of AugMix's consistency loss on the Efficient ResNet, in equal epochs and at equal cost.

Source: Hendrycks et al. (2020, arXiv:1912.02781): the Jensen-Shannon divergence between the predictions for an image
and for two views of it is added to the loss with weight 12. Each step then takes three images for one. So
`augmix_thrice` trains without it for three times the epochs, which costs as much: what is gained over `augmix` alone
may come from the work and not from the method. The paper's gain is on corrupted images: `cifar-lab evaluate augmix
--corruptions all` measures it.

Run time: 43 to 129 PFLOP a cell, 12 cells; `cifar-lab plan augmix` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

POLICY, CONSISTENCY = "data.policy.name", "data.policy.consistency"

ABLATION = Ablation(
    question="Is AugMix's consistency loss worth its two further views?",
    source="Hendrycks, Mu, Cubuk, Zoph, Gilmer and Lakshminarayanan (2020), AugMix, section 3",
    baseline=EFFICIENT_RESNET.override({POLICY: "augmix"}),
    factors=(POLICY, CONSISTENCY, "train.epochs"),
    variants=(
        Variant(name="none", diff={POLICY: "none"}),
        Variant(name="augmix"),
        Variant(name="augmix_thrice", diff={"train.epochs": 600}),
        Variant(name="consistency12", diff={CONSISTENCY: 12.0}),
    ),
    control="augmix",
)

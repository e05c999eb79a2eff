"""Effect of sharpness-aware minimization on the Efficient ResNet, in equal epochs and at equal cost.

Source: Foret et al. (2021), Sharpness-Aware Minimization for Efficiently Improving Generalization, with rho = 0.05 for
CIFAR-10; Kwon et al. (2021), ASAM, scale the step by the size of each weight, with rho = 0.5 for CIFAR-10. Twice the
usual rho is our choice. Each step takes two passes. So `off_twice` trains without it for twice the epochs, which costs
as much: what is gained over `off` alone may come from the work and not from the method.

Run time: 43 to 86 PFLOP a cell, 15 cells; `cifar-lab plan sam` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

RHO, ADAPTIVE = "optim.sam.rho", "optim.sam.adaptive"

ABLATION = Ablation(
    question="Is sharpness-aware minimization worth its second pass?",
    source="Foret, Kleiner, Mobahi and Neyshabur (2021), Sharpness-Aware Minimization, section 3.1",
    baseline=EFFICIENT_RESNET,
    factors=(RHO, ADAPTIVE, "train.epochs"),
    variants=(
        Variant(name="off"),
        Variant(name="off_twice", diff={"train.epochs": 400}),
        Variant(name="rho0.05", diff={RHO: 0.05}),
        Variant(name="rho0.1", diff={RHO: 0.1}),
        Variant(name="adaptive0.5", diff={RHO: 0.5, ADAPTIVE: True}),
    ),
    control="off",
)

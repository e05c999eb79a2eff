"""Knowledge distillation into half the width: from the Efficient ResNet, from itself, and from an ensemble of itself.

Source: Hinton, Vinyals and Dean (2015), Distilling the Knowledge in a Neural Network, which the writeup does not use.
The student is the Efficient ResNet at width 32, a quarter of its parameters. Temperature 4 and weight 0.9 are a
frequent choice; temperature 2 and weight 0.5 are crossed with them. Self-distillation has a teacher of the student's
own size, as in Furlanello et al. (2018), Born-Again Neural Networks; `ensemble` learns from three seeds of it. As all
seeds of `ensemble` have the same three teachers, their scatter does not contain that of the teachers.

Everything trains without MixUp, CutMix and label smoothing: a teacher that was trained with smoothed labels is known to
teach less (Müller et al., 2019).

Run time: 191 PFLOP a seed; `cifar-lab plan distillation` says what that is on your machine.
"""

from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

WEIGHT, TEMPERATURE = "train.distill.weight", "train.distill.temperature"

ABLATION = Ablation(
    question="Does a network of half the width learn more from a trained one than from the labels alone?",
    source="Hinton, Vinyals and Dean (2015), Distilling the Knowledge in a Neural Network",
    baseline=EFFICIENT_RESNET.override({"model.width": 32}),
    factors=("model.width", WEIGHT, TEMPERATURE),
    variants=(
        Variant(name="none"),
        Variant(name="teacher", diff={"model.width": 64}),
        Variant(name="t4-w0.9", distills_from="teacher", diff={WEIGHT: 0.9, TEMPERATURE: 4.0}),
        Variant(name="t4-w0.5", distills_from="teacher", diff={WEIGHT: 0.5, TEMPERATURE: 4.0}),
        Variant(name="t2-w0.9", distills_from="teacher", diff={WEIGHT: 0.9, TEMPERATURE: 2.0}),
        Variant(name="t2-w0.5", distills_from="teacher", diff={WEIGHT: 0.5, TEMPERATURE: 2.0}),
        Variant(name="itself", distills_from="none", diff={WEIGHT: 0.9}),
        Variant(name="ensemble", distills_from="none", teacher_seeds=(0, 1, 2), diff={WEIGHT: 0.9}),
    ),
    control="none",
)

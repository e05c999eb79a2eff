"""The part of a recipe that names teachers, and the check that a teacher's outputs are of use to its student."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cifar_lab.config.recipe_part import Fraction, RecipePart

if TYPE_CHECKING:
    from cifar_lab.config.recipe import Recipe

Fingerprint = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _as_tuple(value: object) -> object:
    """Return the entries of a list, or the one entry that is given without brackets; none: no entry."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _in_order(teachers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fingerprints in one order: the same teachers are the same ensemble."""
    return tuple(sorted(teachers))


class DistillationConfig(RecipePart):
    """Knowledge distillation (Hinton, Vinyals and Dean, 2015, arXiv:1503.02531): the teachers' outputs are targets too.

    loss = (1 - weight) * cross-entropy + weight * T² * KL(teacher at T ‖ student at T), T being the temperature.
    """

    teacher: Annotated[tuple[Fingerprint, ...], BeforeValidator(_as_tuple), AfterValidator(_in_order)] = ()
    """Fingerprints of the finished cells that are the teachers; several: the mean of their probabilities.

    One fingerprint needs no brackets.
    """
    temperature: Annotated[float, Field(gt=0, le=1000)] = 4.0
    """Temperature by which the logits of teachers and student are divided.

    Hinton et al. have between 2.5 and 20.
    """
    weight: Fraction = 0.0
    """Weight of the teachers' targets, the rest being that of the labels; 0: no distillation."""

    @model_validator(mode="after")
    def _teachers_differ(self) -> Self:
        for one, next_one in zip(self.teacher, self.teacher[1:], strict=False):
            if one == next_one:
                raise ValueError(f"train.distill.teacher names {one[:12]} twice")
        return self


def why_no_teacher(teacher: Recipe, student: Recipe, *, same_images: bool = True) -> str | None:
    """Return the reason why a network of recipe `teacher` cannot teach that of `student`; None if it can.

    `same_images`: both are trained on the same data, so that a teacher's training images may be the student's val.
    """
    if teacher.data.normalise != student.data.normalise:
        normalised = ["scaled to [0, 1]", "normalised"]
        return (
            f"it is trained on images {normalised[teacher.data.normalise]}, and the student's are "
            f"{normalised[student.data.normalise]} (data.normalise)"
        )
    if not same_images or student.train.protocol == "writeup":
        return None
    if teacher.train.protocol == "writeup":
        return "it is trained on all images (train.protocol=writeup), and so on those that the student holds out as val"
    for path, its, own in (
        ("data.val_fraction", teacher.data.val_fraction, student.data.val_fraction),
        ("data.split_seed", teacher.data.split_seed, student.data.split_seed),
    ):
        if its != own:
            return f"it has {path}={its:g}, the student {own:g}: it is trained on images that the student holds out"
    return None

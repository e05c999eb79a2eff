"""Parts of a recipe about augmentation policies, random erasing, and augmentations of users."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cifar_lab.config.built_in_names import AUGMENTATIONS, ExtensionOptions
from cifar_lab.config.recipe_part import RecipePart
from cifar_lab.extension import Options

POLICY_FIELDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "autoaugment": (),
    "randaugment": ("num_ops", "magnitude"),
    "trivialaugment": (),
    "augmix": ("severity", "all_ops", "consistency"),
}
"""Fields that each augmentation policy uses."""


class PolicyConfig(RecipePart):
    """Augmentation policy: random operations on the colours and the geometry of each image, after crop and flip."""

    name: Literal["none", "autoaugment", "randaugment", "trivialaugment", "augmix"] = "none"
    """Augmentation policy: none, AutoAugment (for CIFAR-10), RandAugment, TrivialAugment (wide) or AugMix.

    Cubuk et al. (2019), Cubuk et al. (2020), Müller and Hutter (2021), Hendrycks et al. (2020; its consistency loss is
    `consistency`).
    """
    num_ops: Annotated[int, Field(ge=1, le=14)] = 2
    """randaugment: operations on each image, one after the other."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """randaugment: strength of all operations, 0 to 30."""
    severity: Annotated[int, Field(ge=1, le=10)] = 3
    """augmix: number of levels, 1 to 10, from which the strength of each operation is drawn."""
    all_ops: bool = False
    """augmix: draw brightness, colour, contrast and sharpness too.

    The paper leaves them out, as they are among the corruptions that it tests.
    """
    consistency: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """augmix: weight of the Jensen-Shannon divergence between an image and two views of it; 0: off.

    The paper has 12. Each training step then computes three images for one, and takes three times as long.
    """

    @property
    def views(self) -> int:
        """Return the images that a step computes for each training image: itself and two views for consistency."""
        return 3 if self.name == "augmix" and self.consistency else 1


class RandomErasingConfig(RecipePart):
    """Random erasing: a rectangle of each image is set to the mean colour (Zhong et al., 2020)."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a rectangle of an image is blanked; 0: none."""
    area: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.02, 0.33)
    """Least and largest area of the rectangle, as a fraction of the image.

    The paper has at most 0.4.
    """
    ratio: tuple[Annotated[float, Field(gt=0, le=100)], Annotated[float, Field(gt=0, le=100)]] = (0.3, 3.3)
    """Least and largest ratio of the rectangle's height to its width."""

    @model_validator(mode="after")
    def _limits_rise(self) -> Self:
        for name, (least, largest) in (("area", self.area), ("ratio", self.ratio)):
            if least > largest:
                raise ValueError(f"data.random_erasing.{name} must rise, got {[least, largest]}")
        return self


class AugmentationConfig(RecipePart):
    """An augmentation of a user."""

    name: Annotated[str, AUGMENTATIONS]
    """Your own augmentation."""
    options: ExtensionOptions = Options()
    """Options of your own augmentation."""

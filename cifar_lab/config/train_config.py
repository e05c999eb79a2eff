"""The training part of a recipe: length, batch, averages of the weights, precision, protocol, metrics, callbacks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cifar_lab.config.built_in_names import (
    ALWAYS_MEASURED,
    CALLBACKS,
    METRICS,
    PARTS_OF_THE_DATA,
    ExtensionOptions,
    last_part,
    require_distinct_keys,
    require_no_options,
)
from cifar_lab.config.distillation_config import DistillationConfig
from cifar_lab.config.recipe_part import LARGEST_BATCH, LONGEST, RecipePart, with_name
from cifar_lab.extension import Options


class MetricConfig(RecipePart):
    """A further metric that is measured beside loss and accuracy."""

    name: Annotated[str, METRICS]
    """Metric: a built-in one, or your own."""
    options: ExtensionOptions = Options()
    """Options of your own metric."""

    @property
    def key(self) -> str:
        """Name in results: `top5`, or the function of `module:function`."""
        return last_part(self.name)

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("train.metrics", self.name, self.options, METRICS)
        return self


class CallbackConfig(RecipePart):
    """A callback of a user that acts on the training, or logs what it measures there."""

    name: Annotated[str, CALLBACKS]
    """Callback: your own."""
    options: ExtensionOptions = Options()
    """Options of your own callback."""

    @property
    def key(self) -> str:
        """Prefix of its metrics: the function of `module:function`."""
        return last_part(self.name)


class SWAConfig(RecipePart):
    """Stochastic weight averaging (Izmailov et al., 2018): the mean of the weights at many points of the training.

    The mean is evaluated and kept after the last epoch; the curve before it is that of the network itself.
    """

    enabled: bool = False
    """Keep the mean of the weights from the last part of the training."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Fraction of the training after which weights are averaged and the rate of swa applies."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate from then on, as a factor of optim.lr; none: the schedule's at that point."""
    schedule: Literal["constant", "cyclic"] = "constant"
    """constant: one rate, weights are averaged after each epoch; cyclic: after each cycle of a falling rate."""
    cycle: Annotated[float, Field(gt=0, le=1)] = 0.025
    """cyclic: length of a cycle, a fraction of the training, rounded to divide the rest of it.

    Five of 200 epochs.
    """
    final: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """cyclic: rate at the end of a cycle over that at its beginning; the fall is linear."""


class TrainConfig(RecipePart):
    """Length of training, batch size, regularisation, precision, and protocol."""

    epochs: Annotated[int, Field(ge=1, le=LONGEST)] = 200
    """Number of epochs."""
    batch_size: Annotated[int, Field(ge=1, le=LARGEST_BATCH)] = 128
    """Images per training step."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the moving average of the weights that is evaluated; 0: none."""
    swa: SWAConfig = SWAConfig()
    distill: DistillationConfig = DistillationConfig()
    tta: Literal["none", "flip", "flip_shift"] = "none"
    """Test-time augmentation: none, mirror, or mirror and shifts.

    Mean logits of an image and its mirror image, or of these and both shifted by one pixel in two directions
    (Jordan, 2024), in the final test only. All curves are measured without it.
    """
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of convolutions and products; auto: bf16 or fp16 where the device supports it.

    `auto`: bf16 with hardware support, fp16 on tensor cores, else fp32.
    """
    protocol: Literal["holdout", "writeup"] = "holdout"
    """holdout: hold out val, evaluate test once; writeup: train on all, evaluate test each epoch."""
    metrics: tuple[Annotated[MetricConfig, BeforeValidator(with_name)], ...] = ()
    """Further metrics, by name or as {"name": …, "options": {…}}."""

    callbacks: tuple[Annotated[CallbackConfig, BeforeValidator(with_name)], ...] = ()
    """Callbacks of your own, in the order in which they act, by name or as {"name": …, "options": {…}}."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        require_distinct_keys("train.metrics", "metrics", [metric.key for metric in self.metrics], ALWAYS_MEASURED)
        require_distinct_keys("train.callbacks", "callbacks", [each.key for each in self.callbacks], PARTS_OF_THE_DATA)
        return self

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if self.ema and self.swa.enabled:
            raise ValueError(
                f"train.ema={self.ema:g} and train.swa.enabled=true both replace the evaluated network; choose one"
            )
        return self

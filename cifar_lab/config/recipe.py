"""The recipe: one fully resolved training configuration, frozen and validated. All defaults are defined here.

The defaults are the Efficient ResNet of the writeup's Table 1 (`EFFICIENT_RESNET`); `RESNET18` is its stage 1.
Lengths in a schedule are fractions of the training, so that a recipe can be shortened without changing them.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cifar_lab.config import identity
from cifar_lab.config.built_in_names import (
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    ExtensionOptions,
    require_distinct_keys,
    require_no_options,
)
from cifar_lab.config.identity import DRAWS as DRAWS
from cifar_lab.config.identity import NUMERICS as NUMERICS
from cifar_lab.config.identity import SCHEDULE_FIELDS
from cifar_lab.config.identity import WITH_MOMENTUM as WITH_MOMENTUM
from cifar_lab.errors import RecipeError, nearest
from cifar_lab.extension import Group, Options, Registered, check_options

if TYPE_CHECKING:
    from cifar_lab.config.baselines import EFFICIENT_RESNET as EFFICIENT_RESNET
    from cifar_lab.config.baselines import FAST as FAST
    from cifar_lab.config.baselines import RESNET18 as RESNET18

LARGEST, LONGEST, LARGEST_BATCH = 2**53, 10**7, 10**6
"""Upper limits of every count (integers are exact in JSON up to here), of epochs, and of the batch size."""

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Kernel = Annotated[int, Field(ge=1, le=11)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SEConfig(_Part):
    """Squeeze-and-excitation (Hu et al., 2018): per-channel gates from globally pooled features."""

    placement: Literal["none", "stem", "block"] = "stem"
    reduction: Count = 16

    def hidden(self, channels: int) -> int:
        """Return the width of the bottleneck for `channels` channels, at least 1."""
        return max(1, channels // self.reduction)


class ModelConfig(_Part):
    """A ResNet of basic blocks; layer i has `width * 2**i` channels and halves the image from the second on.

    The other fields have no effect on a network of a user.
    """

    blocks: Annotated[tuple[Count, ...], Field(min_length=1, max_length=5)] = (4, 4, 3)
    width: Count = 64
    stem: Literal["conv", "whitening"] = "conv"
    """`whitening`: fixed filters that whiten 3×3 patches, then a 1×1 convolution (Page, 2018; Jordan, 2024)."""
    stem_pool: bool = False
    """2×2 max pooling after the stem's convolution: every layer sees half the resolution (Jordan, 2024)."""
    kernel: Kernel | tuple[Kernel, ...] = 3
    """Kernel size of the blocks' convolutions: one for all layers, or one each. Odd. (The stem is always 3×3.)"""
    shortcut_kernel: Kernel | tuple[Kernel, ...] = 1
    """Kernel size of the shortcut projections: one for all layers, or one each (the first layer has no projection)."""
    batch_norm: bool = True
    extra_fc: Count | None = None
    """Width of a fully connected layer with ReLU before the output; None: no such layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability before the classifier."""
    se: SEConfig = SEConfig()
    name: Annotated[str, MODELS] = "resnet"
    """The network: `resnet`, or one of a user."""
    options: ExtensionOptions = Options()
    """Options of a user's network."""

    @property
    def kernels(self) -> tuple[int, ...]:
        return self._per_layer(self.kernel)

    @property
    def shortcut_kernels(self) -> tuple[int, ...]:
        return self._per_layer(self.shortcut_kernel)

    def _per_layer(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * len(self.blocks) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("model", self.name, self.options, MODELS)
        return self

    @model_validator(mode="after")
    def _kernels_fit(self) -> Self:
        for path, kernels in (("kernel", self.kernels), ("shortcut_kernel", self.shortcut_kernels)):
            if len(kernels) != len(self.blocks):
                raise ValueError(
                    f"model.{path}={list(kernels)} names {len(kernels)} layers, model.blocks {len(self.blocks)}"
                )
            if any(side % 2 == 0 for side in kernels):
                raise ValueError(f"model.{path} must be odd, got {list(kernels)}")
        return self


class DataConfig(_Part):
    """Preprocessing and augmentation of images, and the validation split."""

    crop: Annotated[int, Field(ge=0, le=16)] = 4
    """Random crop: pixels of zero padding on each side; 0: no crop."""
    flip: bool = True
    """Mirror each image with probability 1/2."""
    alternating_flip: bool = False
    """Mirror at random only in the first epoch; from then on alternate every epoch (Jordan, 2024)."""
    normalise: bool = True
    """Subtract the channel means of CIFAR-10 and divide by its deviations; otherwise only scale to [0, 1]."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 0
    """Side of the blanked square in pixels (DeVries and Taylor, 2017); 0: none."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of MixUp's Beta distribution (Zhang et al., 2018); 0: off. With `cutmix` too, each image gets one."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of CutMix's Beta distribution (Yun et al., 2019); 0: off."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the training images held out as val, stratified: 5,000 of CIFAR-10's 50,000."""
    split_seed: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """Seed of the split; independent of the training seed, so that all seeds share their val set."""


class LookaheadConfig(_Part):
    """Lookahead around the optimizer (Zhang et al., 2019): every `k` steps, move slow weights by `alpha`."""

    enabled: bool = True
    k: Count = 5
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5


class ClipConfig(_Part):
    """Gradient clipping: each element to ±threshold (`value`), or the whole gradient's 2-norm (`norm`)."""

    by: Literal["none", "value", "norm"] = "value"
    threshold: Annotated[float, Field(gt=0)] = 0.1


class OptimizerConfig(_Part):
    """The optimizer. `momentum` applies to sgd, sgd_nesterov, rmsprop and muon only."""

    name: Annotated[str, OPTIMIZERS] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    decay_norms: bool = True
    """Apply weight decay also to batch norm's scales, and to biases, as in the writeup's code."""
    lookahead: LookaheadConfig = LookaheadConfig()
    clip: ClipConfig = ClipConfig()
    options: ExtensionOptions = Options()
    """Options of a user's optimizer, besides `lr` and `weight_decay`."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("optim", self.name, self.options, OPTIMIZERS)
        return self

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.name == "sgd_nesterov" and self.momentum == 0:
            raise ValueError("optim.name=sgd_nesterov needs optim.momentum > 0")
        return self


class ScheduleConfig(_Part):
    """Learning rate schedule. Positions and lengths are fractions of the whole training."""

    name: Annotated[str, SCHEDULES] = "cosine"
    every: Literal["epoch", "step"] = "epoch"
    """Unit of changes of the rate; the writeup's cosine changes once per epoch."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Linear rise from zero over this fraction, before (and shortening) the schedule; per step."""
    step_size: Annotated[float, Field(gt=0, le=1)] = 0.3
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    start_div: Annotated[float, Field(ge=1)] = 25.0
    final_div: Annotated[float, Field(ge=1)] = 1e4
    period: Annotated[float, Field(gt=0, le=1)] = 0.25
    period_growth: Count = 1
    options: ExtensionOptions = Options()
    """Options of a user's schedule."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("schedule", self.name, self.options, SCHEDULES)
        return self

    @model_validator(mode="after")
    def _milestones_rise(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"schedule.milestones must rise, got {list(self.milestones)}")
        return self


class MetricConfig(_Part):
    """A further metric that is measured beside loss and accuracy."""

    name: Annotated[str, METRICS]
    options: ExtensionOptions = Options()

    @property
    def key(self) -> str:
        """Name in results: `top5`, or the function of `module:function`."""
        return self.name.rpartition(":")[2].rpartition(".")[2]

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("train.metrics", self.name, self.options, METRICS)
        return self


def _named(value: object) -> object:
    """Return the object of a metric that is given by its name alone."""
    return {"name": value} if isinstance(value, str) else value


class TrainConfig(_Part):
    """Length of training, batch size, regularisation, precision, and protocol."""

    epochs: Annotated[int, Field(ge=1, le=LONGEST)] = 200
    batch_size: Annotated[int, Field(ge=1, le=LARGEST_BATCH)] = 128
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of an exponential moving average of the weights, which is then evaluated; 0: none."""
    tta: Literal["none", "flip", "flip_shift"] = "none"
    """Test-time augmentation of the final test: mean logits of an image and its mirror image, or of these and both
    shifted by one pixel in two directions (Jordan, 2024). All curves are measured without it."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of convolutions and products. `auto`: bf16 with hardware support, fp16 on tensor cores, else fp32."""
    protocol: Literal["holdout", "writeup"] = "holdout"
    """`holdout`: train without val, test once at the end. `writeup`: train on all images, test each epoch."""
    metrics: tuple[Annotated[MetricConfig, BeforeValidator(_named)], ...] = ()
    """Further metrics, by name or as {"name", "options"}."""

    @model_validator(mode="after")
    def _metrics_differ(self) -> Self:
        require_distinct_keys([metric.key for metric in self.metrics])
        return self


class Recipe(_Part):
    """One training configuration. `Recipe()` is the Efficient ResNet of the writeup's Table 1."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    init_from: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Fingerprint of the finished cell whose final weights the training starts from; None: from scratch."""

    def override(self, diff: Mapping[str, object]) -> Recipe:
        """Return this recipe with the dotted paths of `diff` set.

        Raises:
            RecipeError: a path is unknown, or a value has the wrong type or range; the message suggests a valid name.
        """
        tree = self.model_dump(mode="json")
        for path, value in diff.items():
            _place(tree, path, value)
        recipe = _validated(tree, diff)
        for path, group, target, options in recipe.extensions():
            try:
                check_options(group, target, options)
            except RecipeError as error:
                raise RecipeError(f"{path}: {error}") from error
        return recipe

    def extensions(self) -> Iterator[tuple[str, Group, str, Options]]:
        """Yield path, group, name and options of everything in this recipe that is not built in."""
        parts: list[tuple[str, Registered, ModelConfig | OptimizerConfig | ScheduleConfig | MetricConfig]] = [
            ("model", MODELS, self.model),
            ("optim", OPTIMIZERS, self.optim),
            ("schedule", SCHEDULES, self.schedule),
            *(("train.metrics", METRICS, metric) for metric in self.train.metrics),
        ]
        for path, registered, part in parts:
            if part.name not in registered.built_in:
                yield path, registered.group, part.name, Options(part.options)

    def steps_per_epoch(self, images: int) -> int:
        """Return the optimizer steps of an epoch of `images`; the last batch may be smaller."""
        return math.ceil(images / self.train.batch_size)

    def flat(self) -> dict[str, Any]:
        """Return every field by its dotted path, in the order of declaration, as JSON values."""
        return dict(leaves(self.model_dump(mode="json")))

    def active(self) -> dict[str, Any]:
        """Return the fields that have an effect; see `identity.active`."""
        return identity.active(self)

    def built(self) -> dict[str, Any]:
        """Return `active`, with effective instead of requested values; see `identity.built`."""
        return identity.built(self)

    def digest(self) -> str:
        """Return the SHA-256 of `active`: two recipes with one digest train the same thing."""
        return identity.digest(self)

    def fingerprint(self, *, seed: int, data_hash: str) -> str:
        """Return the identity of the cell that trains this recipe with `seed` on images of `data_hash`: 64 hex digits.

        See `identity.fingerprint`.
        """
        return identity.fingerprint(self, seed=seed, data_hash=data_hash)


@cache
def paths() -> tuple[str, ...]:
    """Return every dotted path that an override may name."""
    return tuple(Recipe().flat())


def _place(tree: dict[str, Any], path: str, value: object) -> None:
    if path not in paths():
        raise RecipeError(f"no such path in a recipe: '{path}'{_near_path(path)}")
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree[parent]
    tree[leaf] = value


def _near_path(path: str) -> str:
    """Return a hint for an unknown path: the fields of a group, else the nearest path or last part."""
    inside = [known for known in paths() if known.startswith(path + ".")]
    if inside:
        return f"; it holds {', '.join(inside)}"
    close = nearest(path, paths())
    if "did you mean" in close:
        return close
    leaves = {known.rsplit(".", 1)[-1]: known for known in paths()}
    leaf = difflib.get_close_matches(path.rsplit(".", 1)[-1], leaves, n=1)
    return f"; did you mean '{leaves[leaf[0]]}'?" if leaf else f"; it has {', '.join(Recipe.model_fields)}"


def _validated(tree: dict[str, Any], diff: Mapping[str, object]) -> Recipe:
    try:
        return Recipe.model_validate_json(json.dumps(tree, allow_nan=True))
    except ValidationError as error:
        raise RecipeError(_one_line(error, diff)) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise RecipeError(f"a recipe holds JSON values only: {error}") from error


def _one_line(error: ValidationError, diff: Mapping[str, object]) -> str:
    """Return the first problem as `path=value: rule; did you mean …?`."""
    first = error.errors()[0]
    loc = ".".join(str(part) for part in first["loc"])
    path = next((known for known in paths() if loc == known or loc.startswith(known + ".")), loc)
    rule = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if path not in paths():  # a rule over several fields, which names them itself
        return rule
    deeper = [other for other in error.errors() if len(other["loc"]) > len(first["loc"])]
    alternatives, hint = [other["msg"].replace("Input should be ", "") for other in deeper], ""
    value = json.dumps(diff.get(path, first["input"]), default=str)
    if first["type"] == "literal_error":
        hint = nearest(str(first["input"]), re.findall(r"'([^']+)'", rule))
        rule = "is not one of its values" if hint.startswith("; one of") else rule
    elif alternatives:
        rule += f" (or {alternatives[0]} each)"
    return f"{path}={value}: {rule}{hint}"


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by dotted path."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "options":
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


assert set(SCHEDULE_FIELDS) == set(SCHEDULES.built_in)

"""The recipe: one fully resolved training configuration, frozen and validated. All defaults are defined here.

The defaults are the Efficient ResNet of the writeup's Table 1 (`EFFICIENT_RESNET`); `RESNET18` is its stage 1.
Lengths in a schedule are fractions of the training, so that a recipe can be shortened without changing them.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cifar_lab.config import identity
from cifar_lab.config.augmentation_policy import AugmentationConfig, PolicyConfig, RandomErasingConfig
from cifar_lab.config.built_in_names import (
    AUGMENTATIONS,
    CALLBACKS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    ExtensionOptions,
    require_no_options,
)
from cifar_lab.config.identity import DRAWS as DRAWS
from cifar_lab.config.identity import NUMERICS as NUMERICS
from cifar_lab.config.identity import SCHEDULE_FIELDS
from cifar_lab.config.model_config import ModelConfig as ModelConfig
from cifar_lab.config.model_config import SEConfig as SEConfig
from cifar_lab.config.optimizer_config import ClipConfig as ClipConfig
from cifar_lab.config.optimizer_config import LookaheadConfig as LookaheadConfig
from cifar_lab.config.optimizer_config import OptimizerConfig as OptimizerConfig
from cifar_lab.config.optimizer_config import SAMConfig as SAMConfig
from cifar_lab.config.plain_values import find_code, plain
from cifar_lab.config.recipe_part import LARGEST as LARGEST
from cifar_lab.config.recipe_part import Count, Fraction, RecipePart, with_name
from cifar_lab.config.train_config import CallbackConfig as CallbackConfig
from cifar_lab.config.train_config import MetricConfig as MetricConfig
from cifar_lab.config.train_config import TrainConfig as TrainConfig
from cifar_lab.errors import RecipeError, nearest, plain_rule, shortened
from cifar_lab.extension import NOTEBOOK, OWN, Group, Options, Registered, check_options, not_of_a_file

if TYPE_CHECKING:
    from cifar_lab.config.baselines import EFFICIENT_RESNET as EFFICIENT_RESNET
    from cifar_lab.config.baselines import FAST as FAST
    from cifar_lab.config.baselines import RESNET18 as RESNET18


class DataConfig(RecipePart):
    """Preprocessing and augmentation of images, and the validation split."""

    crop: Annotated[int, Field(ge=0, le=16)] = 4
    """Pixels of zero padding on each side before the random crop; 0: no crop."""
    flip: bool = True
    """Mirror half of the images at random."""
    alternating_flip: bool = False
    """Mirror at random in the first epoch, then every second epoch.

    Jordan (2024).
    """
    normalise: bool = True
    """Normalise with the channel statistics of CIFAR-10; otherwise scale to [0, 1]."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 0
    """Side of the blanked square in pixels; 0: none.

    DeVries and Taylor (2017).
    """
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of MixUp's Beta distribution; 0: off.

    Zhang et al. (2018). With `cutmix` too, each image gets one.
    """
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of CutMix's Beta distribution; 0: off.

    Yun et al. (2019).
    """
    policy: PolicyConfig = PolicyConfig()
    random_erasing: RandomErasingConfig = RandomErasingConfig()
    augmentations: tuple[Annotated[AugmentationConfig, BeforeValidator(with_name)], ...] = ()
    """Your own augmentations, in their order, by name or as {"name": …, "options": {…}}."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the training images held out as val.

    Stratified: 5,000 of CIFAR-10's 50,000.
    """
    split_seed: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """Seed that chooses the held-out images, the same for every seed of a cell.

    Independent of the training seed, so that all seeds share their val set.
    """
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the images that are not held out which is trained on; 1: all.

    Stratified, at least one image of each class; a smaller fraction is part of a larger one, and `split_seed` chooses.
    """

    @model_validator(mode="after")
    def _views_are_of_one_image(self) -> Self:
        if self.policy.views > 1 and (self.mixup or self.cutmix):
            mixing = "mixup" if self.mixup else "cutmix"
            raise ValueError(
                f"data.policy.consistency={self.policy.consistency:g} compares views of one image: "
                f"data.{mixing}={getattr(self, mixing):g} mixes two"
            )
        return self


class ScheduleConfig(RecipePart):
    """Learning rate schedule. Positions and lengths are fractions of the whole training."""

    name: Annotated[str, SCHEDULES] = "cosine"
    """Learning rate schedule: a built-in one, or your own."""
    every: Literal["epoch", "step"] = "epoch"
    """When the rate changes: at each epoch or each step.

    The writeup's cosine changes once per epoch.
    """
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the training with a linear rise from zero, before the schedule.

    It shortens the schedule, and rises with each step.
    """
    step_size: Annotated[float, Field(gt=0, le=1)] = 0.3
    """step: fraction of the training between two steps."""
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    """multistep: fractions of the training at which the rate changes, rising."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """step, multistep: factor of each change of the rate."""
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """one_cycle: fraction of the training before the peak."""
    start_div: Annotated[float, Field(ge=1)] = 25.0
    """one_cycle: peak rate over first rate."""
    final_div: Annotated[float, Field(ge=1)] = 1e4
    """one_cycle: first rate over last rate."""
    period: Annotated[float, Field(gt=0, le=1)] = 0.25
    """warm_restarts: length of the first cycle, a fraction of the training."""
    period_growth: Count = 1
    """warm_restarts: factor from the length of one cycle to the next."""
    options: ExtensionOptions = Options()
    """Options of your own schedule."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        require_no_options("schedule", self.name, self.options, SCHEDULES)
        return self

    @model_validator(mode="after")
    def _milestones_rise(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"schedule.milestones must rise, got {list(self.milestones)}")
        return self


_Extensible = ModelConfig | AugmentationConfig | OptimizerConfig | ScheduleConfig | MetricConfig | CallbackConfig


class Recipe(RecipePart):
    """One training configuration. `Recipe()` is the Efficient ResNet of the writeup's Table 1."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    init_from: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Fingerprint of the finished cell whose last weights the training starts from; none: from scratch."""

    @model_validator(mode="after")
    def _average_begins_after_the_warmup(self) -> Self:
        swa, warmup = self.train.swa, self.schedule.warmup
        if swa.enabled and swa.start < warmup:
            raise ValueError(f"train.swa.start={swa.start:g} lies within schedule.warmup={warmup:g}")
        return self

    def override(self, diff: Mapping[str, object]) -> Recipe:
        """Return this recipe with the dotted paths of `diff` set.

        Raises:
            RecipeError: a path is unknown, or a value has the wrong type or range; the message suggests a valid name.
        """
        if not isinstance(diff, Mapping):
            raise RecipeError(
                f"overrides are a dictionary, as in {{'train.epochs': 3}}, got {shortened(repr(diff), 80)}"
            )
        tree, diff = self.model_dump(mode="json"), plain(diff)
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
        for path, registered, part in self._named_parts():
            if part.name not in registered.built_in:
                yield path, registered.group, part.name, Options(part.options)

    def built_in_names(self) -> Iterator[tuple[Group, str]]:
        """Yield group and name of everything in this recipe that is built in and that a package could bring."""
        for _, registered, part in self._named_parts():
            if part.name in registered.built_in:
                yield registered.group, part.name

    def _named_parts(self) -> list[tuple[str, Registered, _Extensible]]:
        return [
            ("model", MODELS, self.model),
            *(("data.augmentations", AUGMENTATIONS, each) for each in self.data.augmentations),
            ("optim", OPTIMIZERS, self.optim),
            ("schedule", SCHEDULES, self.schedule),
            *(("train.metrics", METRICS, metric) for metric in self.train.metrics),
            *(("train.callbacks", CALLBACKS, callback) for callback in self.train.callbacks),
        ]

    @property
    def passes(self) -> int:
        """Return the forward and backward passes of a step for each image.

        One; twice as many with sharpness-aware minimization, three times with AugMix's consistency.
        """
        return (2 if self.optim.sam.rho else 1) * self.data.policy.views

    @property
    def teachers(self) -> tuple[str, ...]:
        """Return the fingerprints of the cells whose outputs are targets of the training."""
        return self.train.distill.teacher if self.train.distill.weight else ()

    @property
    def parents(self) -> tuple[str, ...]:
        """Return the fingerprints of the cells that must be finished first: the one that is continued, the teachers."""
        return (*((self.init_from,) if self.init_from is not None else ()), *self.teachers)

    def steps_per_epoch(self, images: int) -> int:
        """Return the optimizer steps of an epoch of `images`; the last batch may be smaller."""
        return math.ceil(images / self.train.batch_size)

    def flat(self) -> dict[str, Any]:
        """Return every field by its dotted path, in the order of declaration, as JSON values."""
        return dict(leaves(self.model_dump(mode="json")))

    def changes_to(self, other: Recipe) -> dict[str, Any]:
        """Return the fields of `other` that differ from this recipe, by dotted path."""
        own = self.flat()
        return {path: value for path, value in other.flat().items() if value != own[path]}

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
        for path, value in diff.items():
            if (code := find_code(value)) is not None:
                raise RecipeError(f"{path}: {_named_by(code)}") from error
        raise RecipeError(f"a recipe holds JSON values only: {error}") from error


def _named_by(code: Callable[..., object]) -> str:
    """Return how a recipe names a function or class."""
    module, name = getattr(code, "__module__", None) or "module", getattr(code, "__qualname__", type(code).__qualname__)
    if module in NOTEBOOK:
        return not_of_a_file(name)
    return f"a recipe names code as module:function, '{module}:{name}', and does not hold it"


def _one_line(error: ValidationError, diff: Mapping[str, object]) -> str:
    """Return the first problem as `path=value: rule; did you mean …?`."""
    first = error.errors()[0]
    loc = ".".join(str(part) for part in first["loc"])
    path = next((known for known in paths() if loc == known or loc.startswith(known + ".")), loc)
    rule = plain_rule(first["msg"])
    if path not in paths():  # a rule over several fields, which names them itself
        return rule
    deeper = [other for other in error.errors() if len(other["loc"]) > len(first["loc"])]
    alternatives, hint = [plain_rule(other["msg"]).removeprefix("should be ") for other in deeper], ""
    value = json.dumps(diff.get(path, first["input"]), default=str)
    if first["type"] == "literal_error":
        hint = nearest(str(first["input"]), re.findall(r"'([^']+)'", rule))
        if hint.startswith("; one of"):
            hint += f", or {OWN}" if OWN in rule else ""
            rule = "is not one of its values"
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

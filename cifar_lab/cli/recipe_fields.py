"""`describe recipe`: the fields of a recipe, with their defaults and ranges."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cifar_lab.cli import console
from cifar_lab.config.overrides import as_typed
from cifar_lab.config.recipe import LARGEST, Recipe
from cifar_lab.extension import Registered

NAME = "recipe"
"""The word that `describe` takes in place of an ablation's name."""
LINES = {
    "model.blocks": "Residual blocks of each layer.",
    "model.width": "Channels of the first layer; each later layer has twice as many.",
    "model.stem": "First layer: a convolution, or fixed whitening filters with a 1×1 convolution.",
    "model.stem_pool": "Max pool of 2×2 after the stem's convolution.",
    "model.kernel": "Kernel size of the blocks' convolutions, odd: one for all layers, or one each.",
    "model.shortcut_kernel": "Kernel size of the shortcuts' projections, odd: one for all layers, or one each.",
    "model.batch_norm": "Batch normalisation after each convolution.",
    "model.extra_fc": "Width of a fully connected layer before the output; none: no such layer.",
    "model.dropout": "Dropout probability before the classifier.",
    "model.se.placement": "Place of squeeze-and-excitation: none, after the stem, or in each block.",
    "model.se.reduction": "Reduction ratio of squeeze-and-excitation.",
    "model.name": "Network: the built-in one, or your own; the other fields of model do not apply to your own.",
    "model.options": "Options of your own network.",
    "data.crop": "Pixels of zero padding on each side before the random crop; 0: no crop.",
    "data.flip": "Mirror half of the images at random.",
    "data.alternating_flip": "Mirror at random in the first epoch, then every second epoch.",
    "data.normalise": "Normalise with the channel statistics of CIFAR-10; otherwise scale to [0, 1].",
    "data.cutout": "Side of the blanked square in pixels; 0: none.",
    "data.mixup": "Alpha of MixUp's Beta distribution; 0: off.",
    "data.cutmix": "Alpha of CutMix's Beta distribution; 0: off.",
    "data.val_fraction": "Fraction of the training images held out as val.",
    "data.split_seed": "Seed that chooses the held-out images, the same for every seed of a cell.",
    "optim.name": "Optimizer: a built-in one, or your own.",
    "optim.lr": "Peak learning rate.",
    "optim.momentum": "Momentum of sgd, sgd_nesterov, rmsprop and muon.",
    "optim.weight_decay": "Weight decay.",
    "optim.decay_norms": "Apply weight decay to batch norm parameters and biases too.",
    "optim.lookahead.enabled": "Lookahead around the optimizer.",
    "optim.lookahead.k": "Steps between two updates of Lookahead's slow weights.",
    "optim.lookahead.alpha": "Step size of Lookahead's slow weights.",
    "optim.clip.by": "Gradient clipping: none, each element, or the norm of the whole gradient.",
    "optim.clip.threshold": "Threshold of gradient clipping.",
    "optim.options": "Options of your own optimizer, besides lr and weight_decay.",
    "schedule.name": "Learning rate schedule: a built-in one, or your own.",
    "schedule.every": "When the rate changes: at each epoch or each step.",
    "schedule.warmup": "Fraction of the training with a linear rise from zero, before the schedule.",
    "schedule.step_size": "step: fraction of the training between two steps.",
    "schedule.milestones": "multistep: fractions of the training at which the rate changes, rising.",
    "schedule.gamma": "step, multistep: factor of each change of the rate.",
    "schedule.rise": "one_cycle: fraction of the training before the peak.",
    "schedule.start_div": "one_cycle: peak rate over first rate.",
    "schedule.final_div": "one_cycle: first rate over last rate.",
    "schedule.period": "warm_restarts: length of the first cycle, a fraction of the training.",
    "schedule.period_growth": "warm_restarts: factor from the length of one cycle to the next.",
    "schedule.options": "Options of your own schedule.",
    "train.epochs": "Number of epochs.",
    "train.batch_size": "Images per training step.",
    "train.label_smoothing": "Label smoothing.",
    "train.ema": "Decay per step of the moving average of the weights that is evaluated; 0: none.",
    "train.tta": "Test-time augmentation: none, mirror, or mirror and shifts.",
    "train.precision": "Precision of convolutions and products; auto: bf16 or fp16 where the device supports it.",
    "train.protocol": "holdout: hold out val, evaluate test once; writeup: train on all, evaluate test each epoch.",
    "train.metrics": 'Further metrics, by name or as {"name": …, "options": {…}}.',
    "init_from": "Fingerprint of the finished cell whose last weights the training starts from; none: from scratch.",
}
"""By path, what the field is. A test requires a line for each."""


@dataclass(frozen=True, kw_only=True)
class RecipeField:
    """One field of a recipe in words."""

    path: str
    default: str
    range: str
    line: str


def print_fields(*, as_json: bool) -> None:
    """Print every field of a recipe: its path, default, range and meaning."""
    found = list(fields())
    if as_json:
        console.print_json([asdict(field) for field in found])
        return
    headings = ("path", "default", "range", "meaning")
    rows = [(field.path, field.default, field.range, field.line) for field in found]
    if not console.out.is_terminal:  # one line each, for grep
        widths = [max(map(len, column)) for column in zip(headings[:3], *(row[:3] for row in rows), strict=True)]
        for *cells, last in (headings, *rows):
            print("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last]))
        return
    made = console.table("", headings, rows)
    for column in made.columns[:2]:
        column.no_wrap = True
    console.out.print(made)


def fields() -> Iterator[RecipeField]:
    """Yield the fields in the order of declaration; defaults are those of the Efficient ResNet."""
    defaults = Recipe().flat()
    for path, info in _leaves(Recipe):
        yield RecipeField(path=path, default=as_typed(defaults[path]), range=_range(info), line=LINES[path])


def _leaves(part: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, info in part.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def _range(info: FieldInfo) -> str:
    return _words(info.annotation, info.metadata)


def _words(kind: Any, limits: Iterable[Any]) -> str:
    """Return the values of a type in words: `1 to 11`, `above 0`, `none, stem, block`, `list of 1 to 5: 1 or more`."""
    origin, inner = get_origin(kind), get_args(kind)
    limits = list(limits)
    for registered in (limit for limit in limits if isinstance(limit, Registered)):
        return f"{', '.join(registered.built_in)}, or module:function"
    if origin is Annotated:
        return _words(inner[0], [*_flat(inner[1:]), *limits])
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in {Union, types.UnionType}:
        return " or ".join(_words(each, limits if each is not type(None) else ()) for each in inner)
    if kind is dict or origin is dict:
        return "JSON object"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _range(kind.model_fields["name"])
    if origin is tuple:
        bounds = _limits(limits)
        many = f" of {bounds['min_length']} to {bounds['max_length']}" if "max_length" in bounds else ""
        return f"list{many}, each {_words(inner[0], ())}"
    if kind is type(None):
        return "none"
    if kind is bool:
        return "true, false"
    return "fingerprint" if kind is str else _bounds(_limits(limits))


def _flat(limits: Iterable[Any]) -> Iterator[Any]:
    """Yield limits, those inside a pydantic field one by one."""
    for limit in limits:
        yield from limit.metadata if isinstance(limit, FieldInfo) else [limit]


def _limits(limits: Iterable[Any]) -> dict[str, Any]:
    names = ("ge", "gt", "le", "lt", "min_length", "max_length")
    found = {name: getattr(limit, name, None) for limit in limits for name in names if hasattr(limit, name)}
    return {name: value for name, value in found.items() if value is not None}


def _bounds(found: dict[str, Any]) -> str:
    """Return `1 to 11`, `0 or more`, `above 0`, `0 to below 1`; the largest exact integer bounds nothing."""
    low = f"above {found['gt']}" if "gt" in found else str(found.get("ge", ""))
    high = f"below {found['lt']}" if "lt" in found else f"{found['le']:,}" if found.get("le", LARGEST) < LARGEST else ""
    if low and high:
        return f"{low} to {high}" if "gt" not in found else f"{low}, {'up to ' if 'le' in found else ''}{high}"
    return low if not high and "gt" in found else f"{low} or more" if low else high or "any number"

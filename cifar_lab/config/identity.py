"""Identity of a recipe: its active fields, their digest, and the fingerprint of a cell.

A cell keeps its fingerprint when recipes gain fields. The fields of the first version are always part of the identity;
a later field is part of it only where it differs from the neutral value in `NEUTRAL`, under which a training is what it
was before the field existed. A field that is in neither table counts as a later one with its declared default.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from cifar_lab import extension
from cifar_lab.config.augmentation_policy import POLICY_FIELDS

if TYPE_CHECKING:
    from cifar_lab.config.recipe import Recipe

NUMERICS = 1
"""Version of the numerics, increased by every change of the golden trajectory: earlier cells are then different."""
DRAWS = "of its own"
"""Marks a continued training's own random streams, from its parent's fingerprint (`seeding.seed_of_draws`)."""

WITH_MOMENTUM = frozenset({"sgd", "sgd_nesterov", "rmsprop", "muon"})
"""Optimizers that use `optim.momentum`."""
SCHEDULE_FIELDS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "cosine": (),
    "linear": (),
    "step": ("step_size", "gamma"),
    "multistep": ("milestones", "gamma"),
    "one_cycle": ("rise", "start_div", "final_div"),
    "warm_restarts": ("period", "period_growth"),
}
"""Fields that each schedule uses, besides those of all schedules."""

FIRST = frozenset(
    {
        *("model.blocks", "model.width", "model.kernel", "model.shortcut_kernel", "model.batch_norm", "model.extra_fc"),
        *("model.dropout", "model.se.placement", "model.se.reduction"),
        *("data.crop", "data.flip", "data.normalise", "data.cutout", "data.mixup", "data.cutmix"),
        *("data.val_fraction", "data.split_seed"),
        *("optim.name", "optim.lr", "optim.momentum", "optim.weight_decay"),
        *("optim.lookahead.enabled", "optim.lookahead.k", "optim.lookahead.alpha"),
        *("optim.clip.by", "optim.clip.threshold"),
        *("schedule.name", "schedule.every", "schedule.warmup", "schedule.step_size", "schedule.milestones"),
        *("schedule.gamma", "schedule.rise", "schedule.start_div", "schedule.final_div", "schedule.period"),
        "schedule.period_growth",
        *("train.epochs", "train.batch_size", "train.label_smoothing", "train.ema", "train.precision"),
        *("train.protocol", "init_from"),
    }
)
"""Fields of the first version, which are part of the identity at any value, unless they have no effect."""
NEUTRAL: tuple[Mapping[str, object], ...] = (
    {
        "model.stem": "conv",
        "model.stem_pool": False,
        "data.alternating_flip": False,
        "optim.decay_norms": True,
        "train.tta": "none",
    },
    {
        "model.name": "resnet",
        "model.options": {},
        "optim.options": {},
        "schedule.options": {},
        "train.metrics": [],
    },
    {
        "model.activation": "relu",
        "model.stochastic_depth": 0.0,
        "optim.sam.rho": 0.0,
        "optim.sam.adaptive": False,
        "train.swa.enabled": False,
        "train.swa.start": 0.75,
        "train.swa.rate": None,
        "train.swa.schedule": "constant",
        "train.swa.cycle": 0.025,
        "train.swa.final": 0.01,
        "train.callbacks": [],
        "data.policy.name": "none",
        "data.policy.num_ops": 2,
        "data.policy.magnitude": 9,
        "data.policy.severity": 3,
        "data.policy.all_ops": False,
        "data.random_erasing.probability": 0.0,
        "data.random_erasing.area": [0.02, 0.33],
        "data.random_erasing.ratio": [0.3, 3.3],
        "data.augmentations": [],
    },
    {
        "train.distill.teacher": [],
        "train.distill.temperature": 4.0,
        "train.distill.weight": 0.0,
    },
    {
        "data.train_fraction": 1.0,
    },
    {
        "data.policy.consistency": 0.0,
    },
)
"""Later fields with their neutral values, one table for each version; an entry is never changed or removed.

A neutral value stays when the default of its field changes later: what is left out means the same in all versions.
"""


def active(recipe: Recipe, *, neutral: bool = False) -> dict[str, Any]:
    """Return the fields without those that have no effect (no SE, no reduction), each value in canonical form.

    `neutral`: include later fields that have their neutral values (`NEUTRAL`), which fingerprints leave out.
    """
    tree = recipe.model_dump(mode="json")
    tree["model"]["kernel"] = list(recipe.model.kernels)
    tree["model"]["shortcut_kernel"] = list(recipe.model.shortcut_kernels[1:])
    _drop_idle(recipe, tree)
    if not neutral:
        _drop_neutral(tree, _neutral(type(recipe)))
    _name_extensions(recipe, tree)
    return tree


def built(recipe: Recipe) -> dict[str, Any]:
    """Return `active`, with effective instead of requested values.

    Reductions 16 and 32 on 16 channels are different requests with the same result, a bottleneck of one channel.
    """
    tree, model = active(recipe), recipe.model
    if "se" in tree["model"] and model.se.placement != "none":
        layers = len(model.blocks) if model.se.placement == "block" else 1
        tree["model"]["se"]["reduction"] = [model.se.hidden(model.width * 2**i) for i in range(layers)]
    return tree


def digest(recipe: Recipe) -> str:
    """Return the SHA-256 of `active`: two recipes with one digest train the same thing."""
    return _sha256(active(recipe))


def fingerprint(recipe: Recipe, *, seed: int, data_hash: str) -> str:
    """Return the identity of the cell that trains `recipe` with `seed` on images of `data_hash`: 64 hex digits.

    It includes the teachers of a distillation (`train.distill.teacher`) and the parent of a warm start (`init_from`),
    and for the latter also `DRAWS`: cells of earlier versions, which repeated their parent's random draws, are
    different cells.
    """
    draws = {"draws": DRAWS} if recipe.init_from is not None else {}
    return _sha256({"recipe": active(recipe), "seed": seed, "data": data_hash, "numerics": NUMERICS, **draws})


def _drop_idle(recipe: Recipe, tree: dict[str, Any]) -> None:
    """Remove the fields that have no effect, as another field switches them off."""
    optim, data, schedule = tree["optim"], tree["data"], tree["schedule"]
    if recipe.model.se.placement == "none":
        del tree["model"]["se"]["reduction"]
    if not recipe.data.flip:
        del data["alternating_flip"]
    for name in {name for names in POLICY_FIELDS.values() for name in names}:
        if name not in POLICY_FIELDS[recipe.data.policy.name]:
            del data["policy"][name]
    if not recipe.data.random_erasing.probability:
        del data["random_erasing"]
    if not recipe.optim.weight_decay:
        del optim["decay_norms"]
    if not recipe.optim.lookahead.enabled:
        optim["lookahead"] = {"enabled": False}
    if recipe.optim.clip.by == "none":
        del optim["clip"]["threshold"]
    if not recipe.optim.sam.rho:
        del optim["sam"]["adaptive"]
    swa = tree["train"]["swa"]
    if not recipe.train.swa.enabled:
        swa.clear()
    elif recipe.train.swa.schedule == "constant":
        del swa["cycle"], swa["final"]
    if not recipe.train.distill.weight:
        tree["train"]["distill"].clear()
    if recipe.optim.name not in WITH_MOMENTUM:
        del optim["momentum"]
    of_others = {name for names in SCHEDULE_FIELDS.values() for name in names}
    for name in of_others - set(SCHEDULE_FIELDS.get(recipe.schedule.name, ())):
        del schedule[name]
    if recipe.schedule.name == "constant":
        del schedule["every"]
    if recipe.train.protocol == "writeup":
        del data["val_fraction"]
        if recipe.data.train_fraction == 1:
            del data["split_seed"]


def _name_extensions(recipe: Recipe, tree: dict[str, Any]) -> None:
    """Add the versions of all that is not built in; the fields of the built-in network do not apply to another."""
    listed: dict[str, dict[str, Any]] = {"train.metrics": {}, "train.callbacks": {}}
    augmentations: list[dict[str, Any]] = []
    for path, group, target, options in recipe.extensions():
        known = extension.identity(group, target, options)
        if path == "model":
            tree["model"] = known
        elif path in listed:
            listed[path][target] = known
        elif path == "data.augmentations":
            augmentations.append(known)
        else:
            tree[path] |= known
    if augmentations:
        tree["data"]["augmentations"] = augmentations
    for field, parts in (("metrics", recipe.train.metrics), ("callbacks", recipe.train.callbacks)):
        if parts:
            known_of = listed[f"train.{field}"]
            tree["train"][field] = [known_of.get(each.name, {"name": each.name}) for each in parts]


def _drop_neutral(tree: dict[str, Any], neutral: Mapping[str, object], prefix: str = "") -> None:
    """Remove later fields with their neutral values, and groups that this leaves empty."""
    for key in list(tree):
        path = prefix + key
        if path in FIRST:
            continue
        if path in neutral:
            if tree[key] == neutral[path]:
                del tree[key]
        elif isinstance(tree[key], dict):
            _drop_neutral(tree[key], neutral, f"{path}.")
            if not tree[key]:
                del tree[key]


@cache
def _neutral(kind: type[Recipe]) -> Mapping[str, object]:
    """Return the neutral value of every later field by its path, as in JSON."""
    listed = {path: value for table in NEUTRAL for path, value in table.items()}
    return {path: value for path, value in {**kind().flat(), **listed}.items() if path not in FIRST}


def _sha256(tree: object) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

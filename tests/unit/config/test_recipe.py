"""The recipe: the writeup's defaults, refusals in one line, overrides as typed, the identity of a cell."""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from cifar_lab.config import baselines, identity
from cifar_lab.config import recipe as module
from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST, RESNET18
from cifar_lab.config.overrides import as_words, format_overrides, parse_overrides
from cifar_lab.config.recipe import ModelConfig, Recipe, paths
from cifar_lab.errors import RecipeError

NO_DATA = "0" * 64

# A change here means that the identity of every cell changed: whatever was trained before is trained again.
# Where that is meant (a new field, other numerics), say so in the log and write the new values down.
GOLDEN = {
    "EFFICIENT_RESNET": "b1baf423456eae71e4d22f7b1ed02a4035f527e2d9563f85abf1c1a3bde5cc20",
    "RESNET18": "8770fb8ab324b01125190f5ea6e868b56d48b50420e2038629f6a184fccab8bc",
}


def fingerprint(recipe: Recipe, *, seed: int = 0, data_hash: str = NO_DATA) -> str:
    return recipe.fingerprint(seed=seed, data_hash=data_hash)


def refusal(diff: dict[str, Any], base: Recipe = EFFICIENT_RESNET) -> str:
    """The message that `diff` is refused with: one line."""
    with pytest.raises(RecipeError) as caught:
        base.override(diff)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def fields_of(kind: type[BaseModel], prefix: str = "") -> set[str]:
    """Every leaf of the schema, read from the classes."""
    found: set[str] = set()
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= fields_of(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


# Defaults


def test_the_defaults_are_table_1_of_the_writeup() -> None:
    table_1 = {
        "model.blocks": [4, 4, 3], "model.width": 64, "model.batch_norm": True, "model.extra_fc": None,
        "model.dropout": 0.0, "model.se.placement": "stem", "model.se.reduction": 16, "data.crop": 4,
        "data.flip": True, "data.normalise": True, "data.mixup": 0.0, "data.cutmix": 0.0, "data.cutout": 0,
        "optim.name": "sgd", "optim.lr": 0.1, "optim.momentum": 0.9, "optim.weight_decay": 0.0005,
        "optim.lookahead.enabled": True, "optim.lookahead.k": 5, "optim.lookahead.alpha": 0.5,
        "optim.clip.by": "value", "optim.clip.threshold": 0.1, "schedule.name": "cosine",
        "schedule.every": "epoch", "schedule.warmup": 0.0, "train.epochs": 200, "train.batch_size": 128,
        "train.label_smoothing": 0.0, "train.ema": 0.0, "init_from": None,
    }  # fmt: skip
    flat = Recipe().flat()
    assert {path: flat[path] for path in table_1} == table_1
    assert Recipe().model.kernels == (3, 3, 3)
    assert Recipe().model.shortcut_kernels == (1, 1, 1)
    assert Recipe() == EFFICIENT_RESNET


def test_a_tenth_of_the_training_images_is_held_out_unless_the_writeups_protocol_is_asked_for() -> None:
    assert (Recipe().train.protocol, Recipe().data.val_fraction) == ("holdout", 0.1)


def test_resnet18_is_stage_1_of_the_writeup() -> None:
    stage_1 = {
        "model.blocks": [2, 1, 1, 1], "model.width": 64, "model.batch_norm": True, "model.extra_fc": None,
        "model.se.placement": "none", "data.crop": 4, "data.flip": True, "data.normalise": True,
        "data.mixup": 0.0, "data.cutmix": 0.0, "optim.name": "sgd_nesterov", "optim.momentum": 0.9,
        "optim.weight_decay": 0.0005, "optim.lookahead.enabled": False, "optim.clip.by": "value",
        "optim.clip.threshold": 0.1, "schedule.name": "constant",
    }  # fmt: skip
    flat = RESNET18.flat()
    assert {path: flat[path] for path in stage_1} == stage_1


# Refusals


REFUSED: dict[str, list[Any]] = {
    "model.width": [True, "64", 64.0, None, 0, -3],
    "model.blocks": [4, "443", [], [4, 4, 0], [4, 4, True], [4, 4, "3"], [1, 1, 1, 1, 1, 1]],
    "model.kernel": ["3", 3.5, True, -1, 13, [3, 3, 13], [3, 3, "x"], [3, 3], [3, 3, 3, 3], [], [3, 3, 4], [4, 3, 3]],
    "model.shortcut_kernel": [[1, 1], [1, 1, 2]],
    "model.batch_norm": ["true", 1],
    "model.extra_fc": [0, True, "none"],
    "model.dropout": [1.0, -0.1],
    "model.se.reduction": [0, 1.5],
    "data.crop": [-1, 33],
    "data.flip": [None, 0],
    "data.cutout": [33],
    "data.mixup": [-1, False],
    "data.policy.name": ["randaug", None, True],
    "data.policy.num_ops": [0, 15, 2.0],
    "data.policy.magnitude": [-1, 31, 9.5],
    "data.policy.severity": [0, 11],
    "data.policy.consistency": [-1, 1001, True],
    "data.random_erasing.probability": [-0.1, 1.1, True],
    "data.random_erasing.area": [0.3, [0.02], [0.4, 0.02], [0, 0.3], [0.1, 1.1]],
    "data.random_erasing.ratio": [[3.3, 0.3], [0, 1], [0.5, 101]],
    "data.augmentations": ["grey", ["grey"], [{"options": {}}]],
    "data.val_fraction": [0, 1],
    "data.train_fraction": [0, 1.5, -1],
    "data.split_seed": [-1],
    "optim.lr": [0, -0.1, "0.1", True],
    "optim.momentum": [1.0],
    "optim.weight_decay": [-1e-4],
    "optim.lookahead.enabled": ["off"],
    "optim.lookahead.k": [0],
    "optim.lookahead.alpha": [0, 1.1],
    "optim.clip.threshold": [0],
    "schedule.warmup": [1],
    "schedule.milestones": [0.5, [0.5, 1.5], [0.75, 0.5], [0.5, 0.5]],
    "schedule.gamma": [0],
    "schedule.period_growth": [0],
    "train.epochs": [0, 30.0, "30"],
    "train.batch_size": [0],
    "train.ema": [1],
    "train.label_smoothing": [1],
    "init_from": ["abc", "A" * 64, 123],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in REFUSED.items() for value in values])
def test_a_wrong_type_or_range_is_refused_by_path_and_value(path: str, value: Any) -> None:
    message = refusal({path: value})
    assert path in message
    assert any(f"{sign}{json.dumps(value)}" in message for sign in ("=", "got "))


@pytest.mark.parametrize("path", ["optim.lr", "data.mixup", "optim.weight_decay", "optim.clip.threshold"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(path: str, value: float) -> None:
    assert path in refusal({path: value})


@pytest.mark.parametrize("path", ["model.kernel", "model.shortcut_kernel"])
@pytest.mark.parametrize("side", [2, 4, 10])
def test_an_even_kernel_is_refused(path: str, side: int) -> None:
    message = refusal({path: side})
    assert path in message
    assert str(side) in message
    assert "odd" in message


def test_a_wrong_number_of_kernels_is_refused_with_the_number_of_layers() -> None:
    message = refusal({"model.kernel": [3, 3, 5]}, RESNET18)
    assert "model.kernel=[3, 3, 5]" in message
    assert "4" in message
    assert RESNET18.override({"model.kernel": [3, 3, 3, 5]}).model.kernels == (3, 3, 3, 5)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model.widht", "model.width"), ("model.Width", "model.width"), ("model.block", "model.blocks"),
        ("model.se.reductoin", "model.se.reduction"), ("model.reduction", "model.se.reduction"),
        ("model.width.x", "model.width"), ("optim.wight_decay", "optim.weight_decay"),
        ("schedule.milestone", "schedule.milestones"), ("train.epoch", "train.epochs"),
        ("epochs", "train.epochs"), ("lr", "optim.lr"), ("width", "model.width"),
        ("momentum", "optim.momentum"), ("data.normalize", "data.normalise"), ("initfrom", "init_from"),
    ],
)  # fmt: skip
def test_an_unknown_path_is_refused_with_the_nearest(typed: str, meant: str) -> None:
    message = refusal({typed: 1})
    assert f"'{typed}'" in message
    assert f"did you mean '{meant}'?" in message


@pytest.mark.parametrize("typed", ["", ".", "qqqqqq", "=", "--scale"])
def test_a_path_like_no_other_is_refused_with_the_groups_there_are(typed: str) -> None:
    assert "model, data, optim, schedule, train" in refusal({typed: 1})


@pytest.mark.parametrize("group", ["model", "model.se", "optim", "optim.lookahead", "data", "schedule", "train"])
@pytest.mark.parametrize("value", ["none", {}, {"placement": "none"}])
def test_a_group_in_the_place_of_a_field_is_refused_with_its_fields(group: str, value: Any) -> None:
    message = refusal({group: value})
    assert f"'{group}'" in message
    assert all(path in message for path in paths() if path.startswith(group + "."))


@pytest.mark.parametrize(
    ("path", "typed", "meant"),
    [
        ("optim.name", "sgdd", "sgd"), ("optim.name", "SGD", "sgd"), ("optim.name", "adm", "adam"),
        ("optim.name", "nesterov", "sgd_nesterov"), ("schedule.name", "cosin", "cosine"),
        ("schedule.name", "CosineAnnealingLR", "cosine"), ("schedule.every", "epochs", "epoch"),
        ("model.se.placement", "steam", "stem"), ("model.se.placement", "blocks", "block"),
        ("optim.clip.by", "values", "value"), ("train.protocol", "hold-out", "holdout"),
        ("train.precision", "BF16", "bf16"),
    ],
)  # fmt: skip
def test_an_unknown_choice_is_refused_with_the_nearest(path: str, typed: str, meant: str) -> None:
    message = refusal({path: typed})
    assert message.startswith(f'{path}="{typed}"')
    assert f"did you mean '{meant}'?" in message


@pytest.mark.parametrize("value", ["qqq", 3, True])
def test_a_choice_like_no_other_is_refused_with_all_that_there_are(value: object) -> None:
    message = refusal({"optim.clip.by": value})
    assert "none, value, norm" in message


def test_nesterov_without_momentum_is_refused() -> None:
    message = refusal({"optim.name": "sgd_nesterov", "optim.momentum": 0})
    assert "sgd_nesterov" in message
    assert "optim.momentum" in message


def test_a_value_that_json_cannot_say_is_refused() -> None:
    for value in (object(), {1, 2}, b"64"):
        refusal({"model.width": value})


def test_two_fields_that_only_fit_together_are_set_together() -> None:
    longer = {"model.kernel": [3, 3, 3, 5], "model.blocks": [2, 1, 1, 1]}
    for order in (longer, dict(reversed(longer.items()))):
        assert EFFICIENT_RESNET.override(order).model.kernels == (3, 3, 3, 5)


def test_an_override_leaves_the_recipe_it_starts_from_alone() -> None:
    changed = EFFICIENT_RESNET.override({"model.se.reduction": 4})
    assert (changed.model.se.reduction, EFFICIENT_RESNET.model.se.reduction) == (4, 16)
    assert changed.override({"model.se.reduction": 16}) == EFFICIENT_RESNET


# Overrides as they are typed


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("train.epochs=30", 30), ("optim.lr=0.05", 0.05), ("optim.lr=1e-3", 0.001), ("optim.lr=.1", 0.1),
        ("optim.lr=1", 1), ("model.blocks=[3,3,3]", [3, 3, 3]), ("model.blocks=[3, 3, 3]", [3, 3, 3]),
        ("model.kernel=5", 5), ("model.kernel=[3,3,5]", [3, 3, 5]), ("schedule.milestones=[]", []),
        ("schedule.milestones=[0.3,0.6]", [0.3, 0.6]), ("optim.name=adam", "adam"),
        ('optim.name="adam"', "adam"), ("model.se.placement=none", "none"), ("optim.clip.by=none", "none"),
        ("model.extra_fc=none", None), ("model.extra_fc=None", None), ("model.extra_fc=null", None),
        ("model.extra_fc=48", 48), ("init_from=none", None), (f"init_from={NO_DATA}", NO_DATA),
        ("data.flip=off", False), ("data.flip=no", False), ("data.flip=False", False),
        ("data.flip=on", True), ("data.flip=Yes", True), ("data.flip=true", True),
        ("optim.lookahead.enabled=off", False),
    ],
)  # fmt: skip
def test_a_word_is_read_as_its_path_needs_it(word: str, value: object) -> None:
    path = word.split("=")[0]
    diff = parse_overrides([word])
    assert diff == {path: value}
    assert type(diff[path]) is type(value)
    Recipe().override(diff)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("train.epochs=thirty", "thirty"), ("train.epochs=30.0", "30.0"), ("train.epochs=1e2", "100"),
        ("train.epochs=", '""'), ("train.epochs==30", "=30"), ("train.epochs=true", "true"),
        ("train.epochs=none", "none"), ("optim.lr=nan", "NaN"), ("optim.lr=inf", "Infinity"),
        ("optim.lr=0,1", "0,1"), ("model.blocks=3,3,3", "3,3,3"), ("model.blocks=[3,3,3", "[3,3,3"),
        ("model.kernel=4", "4"), ("model.extra_fc=off", "off"), ("data.mixup=off", "off"),
        ("data.flip=1", "1"), ("model.se.placement=off", "off"), ("model.se.placement=None", "None"),
        ("optim.name=adm", "adm"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_as_it_was_typed(word: str, said: str) -> None:
    message = refusal(parse_overrides([word]))
    assert word.split("=")[0] in message
    assert said in message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.epochs"], "got 'train.epochs'; write train.epochs=200"),
            (["train.epochs", "=", "30"], "path=value"),
        (["train.epochs =30"], "did you mean 'train.epochs'?"),
        (["epochs=30"], "did you mean 'train.epochs'?"), (["=30"], "no such path"),
        (["model.se=none"], "model.se.placement"), (["model.widht=none"], "did you mean 'model.width'?"),
        (["train.epochs=30", "train.epochs=40"], "train.epochs is set twice"),
        (["train.epochs=30", "optim.lr=1", "train.epochs=30"], "train.epochs is set twice"),
    ],
)  # fmt: skip
def test_what_is_no_override_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_overrides(words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_words_are_one_diff_and_no_word_is_none() -> None:
    words = ["model.se.placement=none", "model.extra_fc=none", "train.epochs=3"]
    assert parse_overrides(words) == {"model.se.placement": "none", "model.extra_fc": None, "train.epochs": 3}
    assert parse_overrides([]) == {}


@pytest.mark.parametrize("recipe", [EFFICIENT_RESNET, RESNET18, FAST])
def test_every_field_is_shown_as_it_is_typed(recipe: Recipe) -> None:
    words = as_words(recipe.flat())
    assert parse_overrides(words) == recipe.flat()
    assert not any(sign in word for word in words for sign in "\"'( ")


@pytest.mark.parametrize("recipe", [EFFICIENT_RESNET, RESNET18, FAST])
def test_formatted_overrides_are_pasted_back_as_the_same_diff(recipe: Recipe) -> None:
    assert parse_overrides(shlex.split(format_overrides(recipe.flat()))) == recipe.flat()


def test_a_shell_expands_nothing_in_formatted_overrides() -> None:
    diff = {"optim.lr": 0.0123456, "model.blocks": (4, 4, 3)}
    assert format_overrides(diff) == "optim.lr=0.0123456 'model.blocks=[4,4,3]'"
    assert format_overrides(diff, digits=3) == "optim.lr=0.0123 'model.blocks=[4,4,3]'"
    assert format_overrides({}) == ""


def test_a_tuple_is_shown_as_the_list_that_is_typed() -> None:
    assert as_words({"model.blocks": (4, 4, 3), "train.protocol": "writeup", "model.extra_fc": None}) == [
        "model.blocks=[4,4,3]", "train.protocol=writeup", "model.extra_fc=none"
    ]  # fmt: skip


# Every field, once changed: what must hold in the base for it to matter, and its new value

SWA: dict[str, Any] = {"train.swa.enabled": True}
DISTILL: dict[str, Any] = {"train.distill.teacher": "a" * 64, "train.distill.weight": 0.5}
CHANGED: dict[str, tuple[dict[str, Any], Any]] = {
    "model.blocks": ({}, [4, 3, 4]), "model.width": ({}, 32), "model.kernel": ({}, [3, 3, 5]),
    "model.shortcut_kernel": ({}, [1, 1, 3]), "model.batch_norm": ({}, False), "model.extra_fc": ({}, 48),
    "model.dropout": ({}, 0.1), "model.se.placement": ({}, "block"), "model.se.reduction": ({}, 4),
    "data.crop": ({}, 0), "data.flip": ({}, False), "data.normalise": ({}, False), "data.cutout": ({}, 8),
    "data.mixup": ({}, 0.2), "data.cutmix": ({}, 1.0), "data.val_fraction": ({}, 0.2), "data.train_fraction": ({}, 0.5),
    "data.split_seed": ({}, 1), "optim.name": ({}, "sgd_nesterov"), "optim.lr": ({}, 0.05),
    "optim.momentum": ({}, 0.8), "optim.weight_decay": ({}, 0.0), "optim.lookahead.enabled": ({}, False),
    "optim.lookahead.k": ({}, 10), "optim.lookahead.alpha": ({}, 0.8), "optim.clip.by": ({}, "norm"),
    "optim.clip.threshold": ({}, 0.2), "schedule.name": ({}, "constant"), "schedule.every": ({}, "step"),
    "schedule.warmup": ({}, 0.05), "schedule.step_size": ({"schedule.name": "step"}, 0.2),
    "schedule.milestones": ({"schedule.name": "multistep"}, [0.5]),
    "schedule.gamma": ({"schedule.name": "multistep"}, 0.2),
    "schedule.rise": ({"schedule.name": "one_cycle"}, 0.2),
    "schedule.start_div": ({"schedule.name": "one_cycle"}, 10.0),
    "schedule.final_div": ({"schedule.name": "one_cycle"}, 100.0),
    "schedule.period": ({"schedule.name": "warm_restarts"}, 0.1),
    "schedule.period_growth": ({"schedule.name": "warm_restarts"}, 2), "train.epochs": ({}, 30),
    "train.batch_size": ({}, 64), "train.label_smoothing": ({}, 0.1), "train.ema": ({}, 0.99),
    "model.stem": ({}, "whitening"), "model.stem_pool": ({}, True),
    "data.alternating_flip": ({}, True), "optim.decay_norms": ({}, False),
    "train.tta": ({}, "flip"), "train.precision": ({}, "fp32"), "train.protocol": ({}, "writeup"),
    "init_from": ({}, "f" * 64), "model.name": ({}, "made.extensions:Tiny"),
    "model.options": ({"model.name": "made.extensions:Tiny"}, {"width": 5}),
    "optim.options": ({"optim.name": "made.extensions:Signed"}, {"beta": 0.5}),
    "schedule.options": ({"schedule.name": "made.extensions:HALVES"}, {"at": 0.2}),
    "train.metrics": ({}, ["top5"]),
    "train.callbacks": ({}, ["made.extensions:Noise"]), "model.activation": ({}, "gelu"),
    "model.stochastic_depth": ({}, 0.2), "optim.sam.rho": ({}, 0.05),
    "optim.sam.adaptive": ({"optim.sam.rho": 0.05}, True), "train.swa.enabled": ({}, True),
    "train.swa.start": (SWA, 0.5), "train.swa.rate": (SWA, 0.05), "train.swa.schedule": (SWA, "cyclic"),
    "train.swa.cycle": (SWA | {"train.swa.schedule": "cyclic"}, 0.1),
    "train.swa.final": (SWA | {"train.swa.schedule": "cyclic"}, 0.1),
    "data.policy.name": ({}, "trivialaugment"),
    "data.policy.num_ops": ({"data.policy.name": "randaugment"}, 3),
    "data.policy.magnitude": ({"data.policy.name": "randaugment"}, 14),
    "data.policy.severity": ({"data.policy.name": "augmix"}, 1),
    "data.policy.all_ops": ({"data.policy.name": "augmix"}, True),
    "data.policy.consistency": ({"data.policy.name": "augmix"}, 12.0),
    "data.random_erasing.probability": ({}, 0.5),
    "data.random_erasing.area": ({"data.random_erasing.probability": 0.5}, [0.02, 0.4]),
    "data.random_erasing.ratio": ({"data.random_erasing.probability": 0.5}, [0.5, 2.0]),
    "data.augmentations": ({}, ["made.extensions:grey"]),
    "train.distill.teacher": (DISTILL, "b" * 64), "train.distill.temperature": (DISTILL, 2.0),
    "train.distill.weight": (DISTILL, 0.9),
}  # fmt: skip


EXCLUSIVE = [
    ("data.policy.consistency", "data.mixup"), ("data.policy.consistency", "data.cutmix"),
    ("train.ema", "train.swa.enabled"),
]  # fmt: skip
"""Fields whose values in `CHANGED` no recipe has together."""


def test_of_all_pairs_of_fields_only_those_that_exclude_each_other_are_refused() -> None:
    refused = set()
    for one, other in itertools.combinations(sorted(path for path in CHANGED if not path.endswith(".options")), 2):
        diff = {**CHANGED[one][0], **CHANGED[other][0], one: CHANGED[one][1], other: CHANGED[other][1]}
        try:
            EFFICIENT_RESNET.override(diff)
        except RecipeError:
            if not any(set(pair) <= diff.keys() for pair in EXCLUSIVE):
                refused.add((one, other))
    assert not refused


@pytest.mark.parametrize("mixing", ["data.mixup", "data.cutmix"])
def test_consistency_and_mixing_exclude_each_other(mixing: str) -> None:
    views = {"data.policy.name": "augmix", "data.policy.consistency": 12.0}
    with pytest.raises(RecipeError, match=rf"consistency=12 compares views of one image: {mixing}=0\.2 mixes two"):
        Recipe().override({**views, mixing: 0.2})
    assert Recipe().override({**views, mixing: 0.2, "data.policy.name": "none"}).passes == 1
    assert Recipe().override(views).passes == 3


def test_the_paths_are_the_fields_of_the_recipe_and_each_is_tried_below() -> None:
    assert set(paths()) == fields_of(Recipe) == set(CHANGED)


@pytest.mark.parametrize("path", CHANGED)
def test_every_field_that_acts_is_in_the_fingerprint(path: str) -> None:
    needed, value = CHANGED[path]
    base = EFFICIENT_RESNET.override(needed)
    assert fingerprint(base.override({path: value})) != fingerprint(base)


@settings(deadline=None, max_examples=60)
@given(st.sets(st.sampled_from([path for path in sorted(CHANGED) if not path.endswith(".options")]), max_size=6))
def test_a_recipe_survives_json_with_its_identity(changed: set[str]) -> None:
    diff = {path: v for p in changed for path, v in CHANGED[p][0].items()} | {p: CHANGED[p][1] for p in changed}
    assume(not any({one, other} <= diff.keys() for one, other in EXCLUSIVE))
    recipe = EFFICIENT_RESNET.override(diff)
    read = Recipe.model_validate_json(json.dumps(recipe.model_dump(mode="json")))
    assert read == recipe == Recipe().override(recipe.flat())
    assert fingerprint(read) == fingerprint(recipe)


# The fingerprint


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_fingerprints(name: str) -> None:
    assert fingerprint(getattr(baselines, name)) == GOLDEN[name]


def test_seed_data_parent_and_numerics_are_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        fingerprint(Recipe()),
        fingerprint(Recipe(), seed=1),
        fingerprint(Recipe(), data_hash="1" * 64),
        fingerprint(Recipe().override({"init_from": "1" * 64})),
        fingerprint(Recipe().override({"init_from": "2" * 64})),
    }
    monkeypatch.setattr(identity, "NUMERICS", identity.NUMERICS + 1)
    known.add(fingerprint(Recipe()))
    assert len(known) == 6
    assert fingerprint(Recipe().override({"init_from": "1" * 64})) not in known
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in known)


def test_only_a_warm_start_is_another_cell_for_how_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = Recipe().override({"init_from": "1" * 64})
    before = {recipe.init_from: fingerprint(recipe) for recipe in (Recipe(), warm)}
    monkeypatch.setattr(identity, "DRAWS", "of its parent")
    assert fingerprint(Recipe()) == before[None]
    assert fingerprint(warm) != before[warm.init_from]


NO_SE = {"model.se.placement": "none"}
WITHOUT_MOMENTUM = ("adam", "adamw", "adagrad", "adadelta")
NO_LOOKAHEAD = {"optim.lookahead.enabled": False}


@pytest.mark.parametrize(
    ("base", "diff"),
    [
        (NO_SE, {"model.se.reduction": 4}), (NO_LOOKAHEAD, {"optim.lookahead.k": 10}),
        (NO_LOOKAHEAD, {"optim.lookahead.alpha": 0.8}),
        ({"optim.clip.by": "none"}, {"optim.clip.threshold": 1.0}), *[
        ({"optim.name": name}, {"optim.momentum": 0.5}) for name in ("adam", "adamw", "adagrad", "adadelta")
        ], ({}, {"model.shortcut_kernel": [3, 1, 1]}), ({}, {"model.shortcut_kernel": [1, 1, 1]}),
        ({}, {"model.kernel": [3, 3, 3]}), ({"model.kernel": 5}, {"model.kernel": [5, 5, 5]}),
        ({"model.blocks": [2]}, {"model.shortcut_kernel": 3}),
        ({"train.protocol": "writeup"}, {"data.val_fraction": 0.2}),
        ({"train.protocol": "writeup"}, {"data.split_seed": 3}),
        ({"data.flip": False}, {"data.alternating_flip": True}),
        ({"optim.weight_decay": 0.0}, {"optim.decay_norms": False}),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_not_in_the_fingerprint(base: dict[str, Any], diff: dict[str, Any]) -> None:
    recipe = EFFICIENT_RESNET.override(base)
    assert recipe.override(diff) != recipe
    assert recipe.override(diff).digest() == recipe.digest()
    assert fingerprint(recipe.override(diff)) == fingerprint(recipe)


@pytest.mark.parametrize(
    ("base", "path"),
    [
        *[({"optim.name": name}, "optim.momentum") for name in ("sgd", "sgd_nesterov", "rmsprop", "muon")],
        ({"optim.clip.by": "norm"}, "optim.clip.threshold"),
        ({"model.se.placement": "block"}, "model.se.reduction"),
        ({"train.protocol": "holdout"}, "data.split_seed"),
    ],
)
def test_a_field_is_in_the_fingerprint_wherever_it_acts(base: dict[str, Any], path: str) -> None:
    recipe = EFFICIENT_RESNET.override(base)
    assert fingerprint(recipe.override({path: CHANGED[path][1]})) != fingerprint(recipe)


SCHEDULES = {
    "constant": {"name", "warmup"},
    "cosine": {"name", "warmup", "every"},
    "linear": {"name", "warmup", "every"},
    "step": {"name", "warmup", "every", "step_size", "gamma"},
    "multistep": {"name", "warmup", "every", "milestones", "gamma"},
    "one_cycle": {"name", "warmup", "every", "rise", "start_div", "final_div"},
    "warm_restarts": {"name", "warmup", "every", "period", "period_growth"},
}


@pytest.mark.parametrize(
    "field", [path.split(".")[1] for path in CHANGED if path.startswith("schedule.") and path != "schedule.options"]
)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_of_a_schedule_its_own_fields_are_in_the_fingerprint(schedule: str, field: str) -> None:
    recipe = EFFICIENT_RESNET.override({"schedule.name": schedule})
    value = "cosine" if schedule == "constant" and field == "name" else CHANGED[f"schedule.{field}"][1]
    changed = recipe.override({f"schedule.{field}": value})
    assert (fingerprint(changed) != fingerprint(recipe)) == (field in SCHEDULES[schedule])


@pytest.mark.parametrize("path", ["data.mixup", "optim.lr"])
def test_a_whole_number_and_its_float_are_one_cell(path: str) -> None:
    one, other = (Recipe().override(parse_overrides([f"{path}={text}"])) for text in ("1", "1.0"))
    assert fingerprint(one) == fingerprint(other)


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    program = "from cifar_lab.config.baselines import *; print(RESNET18.fingerprint(seed=0, data_hash='0' * 64))"
    for hash_seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        said = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
        assert said.strip() == GOLDEN["RESNET18"]


# What is really built


def test_reductions_that_leave_one_channel_build_the_same_block() -> None:
    narrow = EFFICIENT_RESNET.override({"model.width": 16})
    r16, r32, r8 = (narrow.override({"model.se.reduction": r}) for r in (16, 32, 8))
    assert r16.built() == r32.built() != r8.built()
    assert r16.digest() != r32.digest()


def test_a_bottleneck_in_every_layer_counts_when_recipes_are_compared_as_built() -> None:
    narrow = EFFICIENT_RESNET.override({"model.width": 16, "model.se.placement": "block"})
    assert narrow.built() != narrow.override({"model.se.reduction": 32}).built()


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(64, 16, 4), (64, 4, 16), (16, 16, 1), (16, 32, 1)])
def test_a_bottleneck_is_never_empty(channels: int, reduction: int, hidden: int) -> None:
    assert module.SEConfig(reduction=reduction).hidden(channels) == hidden


# Frozen


def test_a_recipe_cannot_be_changed_in_place() -> None:
    for part, name, value in (
        (EFFICIENT_RESNET, "init_from", NO_DATA),
        (EFFICIENT_RESNET.model, "width", 1),
        (EFFICIENT_RESNET.model.se, "reduction", 1),
        (EFFICIENT_RESNET.optim.lookahead, "enabled", False),
    ):
        with pytest.raises(ValidationError):
            setattr(part, name, value)


def test_equal_recipes_hash_alike() -> None:
    assert len({Recipe(), EFFICIENT_RESNET, Recipe().override({})}) == 1
    assert len({ModelConfig(), ModelConfig(width=32)}) == 2


# Teachers


def test_teachers_are_one_ensemble_in_any_order_and_without_weight_none() -> None:
    orders = (["a" * 64, "b" * 64], ["b" * 64, "a" * 64])
    one, other = (Recipe().override(DISTILL | {"train.distill.teacher": each}) for each in orders)
    assert fingerprint(one) == fingerprint(other)
    assert one.teachers == one.parents == ("a" * 64, "b" * 64)
    idle = one.override({"train.distill.weight": 0.0})
    assert (idle.teachers, fingerprint(idle)) == ((), fingerprint(Recipe()))
    assert one.override({"init_from": "c" * 64}).parents == ("c" * 64, "a" * 64, "b" * 64)


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ({"train.distill.teacher": "abc"}, "train.distill.teacher"),
        ({"train.distill.teacher": ["a" * 64, "a" * 64]}, "names aaaaaaaaaaaa twice"),
        ({"train.distill.temperature": 0.0}, "train.distill.temperature=0.0"),
        ({"train.distill.weight": 1.5}, "train.distill.weight=1.5"),
        ({"train.distil.weight": 0.5}, "did you mean 'train.distill.weight'"),
    ],
)
def test_a_distillation_that_cannot_be_is_refused_in_one_line(diff: dict[str, Any], said: str) -> None:
    assert said in refusal(diff)

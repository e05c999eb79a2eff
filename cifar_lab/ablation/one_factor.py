"""Ablation of one recipe field, made from its values: `train.label_smoothing=0,0.05,0.1`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from cifar_lab.ablation.ablation import BASELINES, Ablation, Variant, find_baseline
from cifar_lab.config.overrides import as_typed, parse_overrides
from cifar_lab.config.recipe import Recipe, paths
from cifar_lab.errors import UsageError, nearest

PREFIX = "ablate."
"""Prefix of the names of these ablations: `ablate.train.label_smoothing`."""


class Factor(NamedTuple):
    """A recipe path, and its values by the text that was typed for each."""

    path: str
    values: Mapping[str, object]


def parse_factor(word: str) -> Factor:
    """Parse `path=value,value,…`; commas in brackets belong to a value, as in `model.blocks=[4,4,3],[3,3,3]`.

    Raises:
        UsageError: the word has another form, has fewer than two values, or one twice.
        RecipeError: the path is unknown, or it cannot have a value.
    """
    path, equals, text = word.partition("=")
    if not equals:
        hint = f"; write {path}={as_typed(Recipe().flat()[path])},…" if path in paths() else nearest(path, paths())
        raise UsageError(f"the setting to ablate reads path=value,value,…, got '{word}'{hint}")
    values: dict[str, object] = {}
    for piece in split_values(text):
        value = parse_overrides([f"{path}={piece}"])[path]
        held = Recipe().override({path: value}).flat()[path] if value is not None else None
        if held in values.values():
            raise UsageError(f"{path}={text}: the value {piece} is there twice")
        values[piece] = held
    if len(values) < 2:
        raise UsageError(f"{word}: an ablation compares two values or more, {path}={text},…")
    return Factor(path, values)


def split_values(text: str) -> list[str]:
    """Split at the commas outside of brackets: `[4,4,3],[3,3,3]` has two parts. Blanks around a part are dropped."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def ablate_factor(factor: Factor, *, control: str | None, baseline: str) -> Ablation:
    """Return the ablation of one factor, with a variant for each value, on the baseline of this name.

    `control`: text of the value that the others are compared with; None: the baseline's own value if it is among them,
    else the first. The first of `BASELINES` has no part in the ablation's name.

    Raises:
        UsageError: no such baseline, a control that is none of the values, or a value that does not fit the baseline.
    """
    plain = find_baseline(baseline)
    path, names = factor.path, _names(factor)
    held = _control(factor, control, plain.flat()[path])
    recipe = plain.override({path: factor.values[held]})
    suffix = "" if baseline == next(iter(BASELINES)) else f".{baseline}"
    return Ablation(
        name=f"{PREFIX}{path}{suffix}",
        question=f"What does {path} change?",
        source="the command line",
        baseline=recipe,
        factors=(path,),
        variants=tuple(
            Variant(name=names[text], diff={} if text == held else {path: value})
            for text, value in factor.values.items()
        ),
        control=names[held],
    )


def _control(factor: Factor, control: str | None, own: object) -> str:
    """Return the text of the control's value, as it is among the factor's."""
    if control is None:
        return next((text for text, value in factor.values.items() if value == own), next(iter(factor.values)))
    value = parse_overrides([f"{factor.path}={control}"])[factor.path]
    wanted = Recipe().override({factor.path: value}).flat()[factor.path]
    for text, known in factor.values.items():
        if known == wanted:
            return text
    raise UsageError(f"--control {control} is none of the values of {factor.path}{nearest(control, factor.values)}")


def _names(factor: Factor) -> dict[str, str]:
    """Return a variant name for each value: `0.05`, `sgd`, `4-4-3`; numbered where two would be equal."""
    names: dict[str, str] = {}
    for text in factor.values:
        slug = re.sub(r"^-(?=[.\d])", "minus", re.sub(r"^(-?)\.(?=\d)", r"\g<1>0.", text.lower()))
        slug = re.sub(r"[^a-z0-9_.+-]+", "-", slug)
        slug = re.sub(r"^[^a-z0-9]+|-+$", "", slug)[:50] or "value"
        taken = set(names.values())
        names[text] = slug if slug not in taken else f"{slug}_{len(taken) + 1}"
    return names

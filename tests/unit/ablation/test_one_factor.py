"""Ablations of one field, made from typed values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.ablation.ablation import BASELINES, Ablation
from cifar_lab.ablation.one_factor import ablate_factor, parse_factor, split_values
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.errors import UsageError
from cifar_lab.store.ablation_file import require_ablation_name


def made(word: str, control: str | None = None, baseline: str = "efficient") -> Ablation:
    return ablate_factor(parse_factor(word), control=control, baseline=baseline)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("train.label_smoothing=0,0.05,.1", {"0": 0.0, "0.05": 0.05, ".1": 0.1}),
        ("model.blocks=[4,4,3],[3,3,3]", {"[4,4,3]": [4, 4, 3], "[3,3,3]": [3, 3, 3]}),
        ("model.kernel=3,[3,3,5]", {"3": 3, "[3,3,5]": [3, 3, 5]}),
        ("optim.name=sgd, adam", {"sgd": "sgd", "adam": "adam"}),
        ("model.extra_fc=none,64", {"none": None, "64": 64}),
        ("data.flip=on,off", {"on": True, "off": False}),
        ("optim.lr=1e-2,0.1", {"1e-2": 0.01, "0.1": 0.1}),
    ],
)
def test_values_are_read_as_overrides_are(word: str, values: dict[str, Any]) -> None:
    assert dict(parse_factor(word).values) == values


@given(st.lists(st.one_of(st.integers(0, 99).map(str), st.lists(st.integers(0, 9)).map(str)), min_size=1))
def test_joined_values_are_split_where_they_were_joined(parts: list[str]) -> None:
    assert split_values(",".join(parts)) == parts


@pytest.mark.parametrize(
    ("word", "control", "names", "chosen"),
    [
        ("train.label_smoothing=0.1,0,0.05", None, ["0.1", "0", "0.05"], "0"),
        ("train.label_smoothing=0.1,0.05", None, ["0.1", "0.05"], "0.1"),
        ("train.label_smoothing=0,0.05", "0.050", ["0", "0.05"], "0.05"),
        ("model.blocks=[4,4,3],[3,3,3]", "[3,3,3]", ["4-4-3", "3-3-3"], "3-3-3"),
        ("model.kernel=[3,3,5],[3, 3,3]", None, ["3-3-5", "3-3-3"], "3-3-5"),
        ("optim.name=sgd,adam", None, ["sgd", "adam"], "sgd"),
        ("train.ema=.5,5e-1", None, None, None),
        ("optim.lr=.5,5", None, ["0.5", "5"], "0.5"),
        ("model.extra_fc=none,64", None, ["none", "64"], "none"),
    ],
)
def test_variants_are_named_after_their_values(
    word: str, control: str | None, names: list[str] | None, chosen: str | None
) -> None:
    if names is None:
        with pytest.raises(UsageError, match="the value 5e-1 is there twice"):
            parse_factor(word)
        return
    found = made(word, control)
    assert [variant.name for variant in found.variants] == names
    assert found.control == chosen
    path, values = parse_factor(word)
    assert [found.recipe(name).flat()[path] for name in names] == list(values.values())


def test_the_baseline_is_named_where_it_is_not_the_usual_one_and_every_name_is_a_files_name() -> None:
    assert made("optim.lr=0.1,0.2").name == "ablate.optim.lr"
    other = made("optim.lr=0.1,0.2", baseline="resnet18")
    assert (other.name, other.baseline) == ("ablate.optim.lr.resnet18", BASELINES["resnet18"].recipe)
    for path in EFFICIENT_RESNET.flat():
        require_ablation_name(f"ablate.{path}.resnet18")


@pytest.mark.parametrize(
    ("word", "control", "message"),
    [
        ("train.label_smoothing", None, r"reads path=value,value,…, got .*; write train\.label_smoothing=0\.0,…"),
        ("train.label_smothing", None, r"did you mean 'train\.label_smoothing'\?"),
        ("train.label_smothing=0,1", None, r"no such path .* did you mean 'train\.label_smoothing'\?"),
        ("train.label_smoothing=0", None, "compares two values or more"),
        ("train.label_smoothing=0,0.0", None, r"the value 0\.0 is there twice"),
        ("train.label_smoothing=0,,0.1", None, "should be a number"),
        ("train.label_smoothing=0,2", None, "should be less than 1"),
        ("optim.name=sgd,adan", None, "did you mean 'adam'"),
        ("model.blocks=(4,4,3),[3,3,3]", None, "a list is typed in square brackets"),
        ("train.label_smoothing=0,0.1", "0.2", r"--control 0\.2 is none of the values .*; did you mean '0\.1'\?"),
        ("train.label_smoothing=0,0.1", "x", "should be a number"),
        ("model.se.reduction=4,8 ", "16", "--control 16 is none of the values"),
    ],
)
def test_what_is_wrong_is_one_line_with_rule_and_value(word: str, control: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        made(word, control)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2

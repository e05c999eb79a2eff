"""The writeup's parameter counts, to the digit, and the refusal of what is over the budget."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from cifar_lab.config.baselines import EFFICIENT_RESNET, RESNET18
from cifar_lab.config.images import ImageShape
from cifar_lab.config.recipe import ModelConfig, Recipe, SEConfig
from cifar_lab.errors import BudgetError
from cifar_lab.models.cost import BUDGET, network_cost, require_within, rounded_up
from cifar_lab.models.resnet import ResNet, build_resnet

GOLDEN = {
    "blocks [2,2,2,2]": (RESNET18, {"model.blocks": [2, 2, 2, 2]}, 11_173_962),
    "blocks [2,1,1,1]": (RESNET18, {}, 4_977_226),
    "efficient, no SE": (EFFICIENT_RESNET, {"model.se.placement": "none"}, 4_697_162),
    "efficient": (EFFICIENT_RESNET, {}, 4_697_742),
    "efficient, r=4": (EFFICIENT_RESNET, {"model.se.reduction": 4}, 4_699_290),
    "blocks [3,3,3], no SE": (EFFICIENT_RESNET, {"model.blocks": [3, 3, 3], "model.se.placement": "none"}, 4_327_754),
    "blocks [3,3,3]": (EFFICIENT_RESNET, {"model.blocks": [3, 3, 3]}, 4_328_334),
    "blocks [5,5,2], no SE": (EFFICIENT_RESNET, {"model.blocks": [5, 5, 2], "model.se.placement": "none"}, 3_885_898),
    "3×3 shortcuts": (EFFICIENT_RESNET, {"model.shortcut_kernel": 3}, 5_025_422),
    "extra FC of 64": (RESNET18, {"model.extra_fc": 64}, 5_005_578),
    "extra FC of 48": (RESNET18, {"model.extra_fc": 48}, 4_997_210),
}


@pytest.mark.parametrize(("baseline", "diff", "parameters"), GOLDEN.values(), ids=GOLDEN.keys())
def test_parameter_counts_are_the_writeups(baseline: Recipe, diff: dict[str, object], parameters: int) -> None:
    assert network_cost(baseline.override(diff).model).parameters == parameters


def test_the_count_is_that_of_the_network_that_is_built() -> None:
    for diff in ({}, {"model.batch_norm": False}, {"model.se.placement": "block", "model.width": 16}):
        model = EFFICIENT_RESNET.override(diff).model
        assert network_cost(model).parameters == sum(p.numel() for p in build_resnet(model, seed=0).parameters())


def test_forward_cost_of_the_final_network() -> None:
    assert 2 * network_cost(EFFICIENT_RESNET.model).macs == 1_597_380_608


SHAPES = [
    {}, {"model.stem": "whitening"}, {"model.stem_pool": True},
    {"model.stem_pool": True, "model.stem": "whitening", "model.blocks": (1, 1, 1, 1, 1), "model.width": 8},
    {"model.batch_norm": False}, {"model.extra_fc": 48}, {"model.kernel": 5},
    {"model.kernel": (3, 1, 5)}, {"model.shortcut_kernel": 3}, {"model.se.placement": "block"}, {"model.width": 7},
    {"model.blocks": (1,)}, {"model.blocks": (1, 2, 1, 1, 1), "model.width": 8}, {"model.se.placement": "none"},
]  # fmt: skip


@pytest.mark.parametrize("diff", SHAPES, ids=str)
def test_multiply_accumulates_are_those_that_torchs_own_counter_sees(diff: dict[str, object]) -> None:
    model = EFFICIENT_RESNET.override(diff).model
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        ResNet(model).eval()(torch.empty(1, 3, 32, 32))
    assert 2 * network_cost(model).macs == counter.get_total_flops()


@pytest.mark.parametrize(
    "images", [ImageShape(classes=100), ImageShape(classes=3, side=45), ImageShape(classes=7, side=8)]
)
@pytest.mark.parametrize(
    "diff", [{}, {"model.stem": "whitening", "model.stem_pool": True}, {"model.blocks": (1, 1, 1, 1, 1)}], ids=str
)
def test_both_counts_are_right_for_any_classes_and_side(images: ImageShape, diff: dict[str, object]) -> None:
    model = EFFICIENT_RESNET.override(diff).model
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        net = ResNet(model, images.classes).eval()
        assert net(torch.empty(2, 3, images.side, images.side)).shape == (2, images.classes)
    assert 4 * network_cost(model, images).macs == counter.get_total_flops()
    assert network_cost(model, images).parameters == sum(p.numel() for p in net.parameters())


def test_filters_that_whiten_are_not_trained_and_do_cost() -> None:
    plain, whitened = (
        network_cost(EFFICIENT_RESNET.override({"model.stem": stem}).model) for stem in ("conv", "whitening")
    )
    assert whitened.parameters - plain.parameters == (54 - 27) * 64
    assert whitened.macs - plain.macs == 32 * 32 * (54 * 27 + 54 * 64 - 27 * 64)


def test_width_66_fits_and_67_does_not() -> None:
    require_within("w66", EFFICIENT_RESNET.override({"model.width": 66}).model, BUDGET)
    with pytest.raises(BudgetError):
        require_within("w67", EFFICIENT_RESNET.override({"model.width": 67}).model, BUDGET)


def test_refusal_names_count_limit_and_the_costliest_part() -> None:
    with pytest.raises(BudgetError, match=r"11,173,962 parameters.*5,000,000.*layer4: 8,393,728"):
        require_within("b2222", RESNET18.override({"model.blocks": [2, 2, 2, 2]}).model, BUDGET)


def test_counting_builds_no_network_and_loads_no_torch() -> None:
    code = (
        "import sys; from cifar_lab.models.cost import network_cost; from cifar_lab import FAST;"
        "network_cost(FAST.model);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.lists(st.integers(1, 3), min_size=1, max_size=5).map(tuple),
    width=st.integers(1, 24),
    stem=st.sampled_from(["conv", "whitening"]),
    stem_pool=st.booleans(),
    kernel=st.sampled_from([1, 3, 5]),
    shortcut_kernel=st.sampled_from([1, 3]),
    batch_norm=st.booleans(),
    extra_fc=st.none() | st.integers(1, 40),
    placement=st.sampled_from(["none", "stem", "block"]),
    reduction=st.integers(1, 32),
)
def test_counts_are_those_of_the_network_that_would_be_built(**fields: Any) -> None:
    se = SEConfig(placement=fields.pop("placement"), reduction=fields.pop("reduction"))
    model = ModelConfig(se=se, **fields)
    with torch.device("meta"):
        net = ResNet(model)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    counted = network_cost(model)
    assert counted.parameters == sum(parts.values())
    assert parts[counted.costliest] == counted.costliest_parameters == max(parts.values())


def test_counts_never_overflow_and_take_no_longer_for_a_large_network() -> None:
    huge = Recipe().override({"model.width": 2**31, "model.blocks": [3000, 10**12, 1]}).model
    assert network_cost(huge).parameters > 2**64
    with pytest.raises(BudgetError, match="over the budget of 5,000,000"):
        require_within("huge", huge, BUDGET)


@pytest.mark.parametrize(
    ("parameters", "text", "number"),
    [(1, "1k", 1000), (1_000, "1k", 1000), (1_001, "2k", 2000), (11_173_962, "12M", 12 * 10**6),
     (12_000_000, "12M", 12 * 10**6)],
)  # fmt: skip
def test_a_budget_that_holds_a_network_is_named_in_round_numbers(parameters: int, text: str, number: int) -> None:
    assert rounded_up(parameters) == (text, number)

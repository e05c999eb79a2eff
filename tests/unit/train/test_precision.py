"""The fastest precision that a device has units for, and what a recipe demands always."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_lab.config.recipe import Recipe
from cifar_lab.data.splits import ImageSubset
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train import precision
from cifar_lab.train.evaluate import evaluate_network

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
CARDS = {
    "NVIDIA H100 80GB HBM3": ((9, 0), "bf16"),
    "NVIDIA A100-SXM4-40GB": ((8, 0), "bf16"),
    "NVIDIA GeForce RTX 4090": ((8, 9), "bf16"),
    "NVIDIA GeForce RTX 5090": ((12, 0), "bf16"),
    "Tesla T4": ((7, 5), "fp16"),
    "NVIDIA GeForce RTX 2080 Ti": ((7, 5), "fp16"),
    "Quadro RTX 4000": ((7, 5), "fp16"),
    "Tesla V100-SXM2-16GB": ((7, 0), "fp16"),
    "NVIDIA GeForce GTX 1660 Ti": ((7, 5), "fp32"),
    "NVIDIA T1000 8GB": ((7, 5), "fp32"),
    "NVIDIA GeForce MX450": ((7, 5), "fp32"),
    "Tesla P100-PCIE-16GB": ((6, 0), "fp32"),
    "NVIDIA GeForce GTX 1080": ((6, 1), "fp32"),
}
"""Capability of each card, and the precision that `auto` is to give it."""


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, units: bool, expected: str) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: units)
    assert precision.resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize("units", [True, False])
def test_a_recipe_that_names_a_precision_gets_it(monkeypatch: pytest.MonkeyPatch, units: bool) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: units)
    assert [precision.resolve_precision(name, CPU) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


@pytest.mark.parametrize("name", CARDS)
def test_auto_follows_the_gpu_that_the_cell_is_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    capability, expected = CARDS[name]
    monkeypatch.setattr(torch.cuda, "get_device_capability", {GPU: capability}.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_name", {GPU: name}.__getitem__)
    assert precision.resolve_precision("auto", GPU) == expected


@pytest.mark.parametrize("name", CARDS)
def test_a_gpu_emulates_what_it_has_no_units_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    capability, fastest = CARDS[name]
    monkeypatch.setattr(torch.cuda, "get_device_capability", {GPU: capability}.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_name", {GPU: name}.__getitem__)
    emulated = {each for each in ("fp32", "bf16", "fp16") if precision.is_emulated(each, GPU)}
    assert emulated == {"bf16": set(), "fp16": {"bf16"}, "fp32": {"bf16", "fp16"}}[fastest]


@pytest.mark.parametrize(
    ("unit", "emulated"), [("avx512_bf16", {"fp16"}), ("amx_fp16", {"bf16"}), ("avx2", {"bf16", "fp16"})]
)
def test_a_processor_emulates_what_it_has_no_units_for(
    monkeypatch: pytest.MonkeyPatch, unit: str, emulated: set[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True}, raising=False)
    assert {each for each in ("fp32", "bf16", "fp16") if precision.is_emulated(each, CPU)} == emulated


def test_an_amd_gpu_computes_in_bf16_whatever_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert precision.resolve_precision("auto", GPU) == "bf16"


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half), ("fp32", torch.float32)])
def test_autocast_multiplies_in_the_precision(name: precision.Precision, dtype: torch.dtype) -> None:
    a = torch.ones(4, 4)
    with precision.autocast(name, CPU):
        assert (a @ a).dtype == dtype


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_only_fp16_needs_its_loss_scaled(name: precision.Precision) -> None:
    assert precision.scaler(name, CPU) is None
    scaler = precision.scaler("fp16", CPU)
    assert scaler is not None
    assert scaler.is_enabled()


def test_a_scaled_loss_keeps_gradients_that_fp16_has_no_room_for() -> None:
    scaler = precision.scaler("fp16", CPU)
    assert scaler is not None
    weight = torch.ones(8, 8, requires_grad=True)

    def gradient(factor: torch.Tensor) -> float:
        weight.grad = None
        with precision.autocast("fp16", CPU):
            outputs = torch.ones(1, 8) @ weight
        (outputs.float().sum() * 1e-9 * factor).backward()
        assert weight.grad is not None
        return float(weight.grad.sum() / factor)

    assert gradient(torch.tensor(1.0)) == 0
    assert gradient(scaler.scale(torch.tensor(1.0))) == pytest.approx(64e-9, rel=0.05)


@pytest.mark.parametrize("tta", ["none", "flip_shift"])
def test_evaluating_in_fp16_agrees_with_fp32(tta: str) -> None:
    recipe = Recipe().override({"model.blocks": [1], "model.width": 8})
    net = build_resnet(recipe.model, seed=0)
    images = torch.randint(0, 256, (20, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = ImageSubset(images, torch.arange(20) % 10, torch.arange(20))
    half, full = (evaluate_network(net, part, recipe.data, name, tta) for name in ("fp16", "fp32"))  # type: ignore[arg-type]
    assert half.loss == pytest.approx(full.loss, rel=1e-2)
    assert half.confidence.dtype == torch.float32
    torch.testing.assert_close(half.confidence, full.confidence, atol=1e-2, rtol=1e-2)


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Product = Callable[[Tensor, Tensor], Tensor]
PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Product]] = {
    "conv2d": ((4, 8, 6, 6), (5, 8, 3, 3), lambda x, w: F.conv2d(x, w, stride=2, padding=1)),
    "grouped": ((4, 8, 6, 6), (8, 1, 3, 3), lambda x, w: F.conv2d(x, w, padding="same", groups=8)),
    "conv1d": ((4, 8, 9), (5, 8, 3), F.conv1d),
    "linear": ((4, 8), (5, 8), F.linear),
    "matmul": ((4, 8), (8, 5), torch.matmul),
    "@": ((4, 8), (8, 5), lambda x, w: x @ w),
    "bmm": ((2, 4, 8), (2, 8, 5), lambda x, w: x.bmm(w)),
}


def _product_and_gradients(
    name: str, x: Tensor, w: Tensor, cast: AbstractContextManager[object], upstream: Tensor | None = None
) -> list[Tensor]:
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    with cast:
        out = PRODUCTS[name][2](x, w)
    out.backward(torch.ones_like(out) if upstream is None else upstream.to(out.dtype))
    assert x.grad is not None
    assert w.grad is not None
    return [out.detach(), x.grad, w.grad]


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("short", DTYPES)
def test_products_without_units_are_those_of_rounded_operands(short: str, name: str) -> None:
    """The reference is computed in fp64 from operands that were rounded before: one rounding may lie between."""
    dtype = DTYPES[short]
    rounded = [torch.randn(shape).to(dtype) for shape in PRODUCTS[name][:2]]
    upstream = torch.randn(PRODUCTS[name][2](*(each.double() for each in rounded)).shape).to(dtype)
    exact = _product_and_gradients(name, *(each.double() for each in rounded), nullcontext(), upstream.double())
    near = [each.float() * (1 + torch.finfo(dtype).eps / 8) for each in rounded]  # rounding takes that off
    made = _product_and_gradients(name, *near, precision.rounding(dtype), upstream)
    assert [each.dtype for each in made] == [dtype, torch.float32, torch.float32]
    for own, reference in zip(made, exact, strict=True):
        assert own.to(dtype).float().equal(own.float()), "a value of the short format"
        torch.testing.assert_close(own.double(), reference, rtol=torch.finfo(dtype).eps / 2 * 1.01, atol=1e-5)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_without_units_are_as_near_to_fp64_as_by_the_kernels_of_torch(name: str) -> None:
    x, w = (torch.randn(shape).bfloat16().float() for shape in PRODUCTS[name][:2])
    exact = _product_and_gradients(name, x.double(), w.double(), nullcontext())
    ours = _product_and_gradients(name, x, w, precision.rounding(torch.bfloat16))
    theirs = _product_and_gradients(name, x, w, torch.autocast("cpu", dtype=torch.bfloat16))
    for own, other, reference in zip(ours, theirs, exact, strict=True):
        assert own.dtype == other.dtype
        assert (own - reference).abs().mean() <= 1.1 * (other - reference).abs().mean() + 1e-12


def test_a_network_without_units_is_as_near_to_fp64_as_by_the_kernels_of_torch() -> None:
    net = build_resnet(Recipe().override({"model.width": 8}).model, seed=0, device=CPU).eval()
    images = torch.randn(8, 3, 32, 32)
    exact = deepcopy(net).double()(images.double())
    with precision.rounding(torch.bfloat16):
        own = net(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other = net(images)
    assert own.dtype == other.dtype == torch.bfloat16
    errors = [float((each.double() - exact).abs().mean()) for each in (own, other)]
    assert 0 < errors[0] < 1.5 * errors[1]


def test_rounding_leaves_alone_what_autocast_leaves_alone() -> None:
    x, w = torch.randn(4, 8), torch.randn(8, 5)
    with precision.rounding(torch.bfloat16):
        assert torch.matmul(x.double(), w.double()).equal(x.double() @ w.double())
        assert torch.matmul(x.double(), w.double()).dtype == torch.float64
        assert (x.long() @ w.long()).dtype == torch.int64
        with torch.autocast("cpu", enabled=False):
            assert (x @ w).dtype == torch.float32
        assert (x + x).dtype == torch.float32
    assert (x @ w).dtype == torch.float32


@pytest.mark.parametrize(("units", "kept"), [(["avx512_bf16", "avx512_fp16"], True), (["avx2"], False)])
def test_a_processor_with_units_uses_them(monkeypatch: pytest.MonkeyPatch, units: list[str], kept: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True), raising=False)
    for short in ("bf16", "fp16"):
        assert isinstance(precision.autocast(short, CPU), torch.autocast) == kept
    assert isinstance(precision.autocast("fp32", CPU), torch.autocast)

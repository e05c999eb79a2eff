"""The fastest precision that a device has units for, and what a recipe demands always."""

from __future__ import annotations

import pytest
import torch

from cifar_lab.config.recipe import Recipe
from cifar_lab.data.splits import ImageSubset
from cifar_lab.models.resnet import build_network
from cifar_lab.train import precision
from cifar_lab.train.evaluate import evaluate

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
    net = build_network(recipe.model, seed=0)
    images = torch.randint(0, 256, (20, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = ImageSubset(images, torch.arange(20) % 10, torch.arange(20))
    half, full = (evaluate(net, part, recipe.data, name, tta) for name in ("fp16", "fp32"))  # type: ignore[arg-type]
    assert half.loss == pytest.approx(full.loss, rel=1e-2)
    assert half.confidence.dtype == torch.float32
    torch.testing.assert_close(half.confidence, full.confidence, atol=1e-2, rtol=1e-2)

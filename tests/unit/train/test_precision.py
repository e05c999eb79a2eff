"""bf16 where the device is fast at it, fp32 elsewhere, and what a recipe demands always."""

from __future__ import annotations

import pytest
import torch

from cifar_lab.train import precision


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, units: bool, expected: str) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: units)
    assert precision.resolve("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize("units", [True, False])
def test_a_recipe_that_names_a_precision_gets_it(monkeypatch: pytest.MonkeyPatch, units: bool) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: units)
    assert precision.resolve("fp32", torch.device("cpu")) == "fp32"
    assert precision.resolve("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_follows_the_gpu_and_does_not_count_emulation(
    monkeypatch: pytest.MonkeyPatch, fast: bool, expected: str
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return fast or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert precision.resolve("auto", torch.device("cuda")) == expected


def test_autocast_multiplies_in_the_precision() -> None:
    a = torch.ones(4, 4)
    with precision.autocast("bf16", torch.device("cpu")):
        assert (a @ a).dtype == torch.bfloat16
    with precision.autocast("fp32", torch.device("cpu")):
        assert (a @ a).dtype == torch.float32

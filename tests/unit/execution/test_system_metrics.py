"""Load of the machine under MLflow's names."""

from __future__ import annotations

import pytest

from cifar_lab.execution import nvml, system_metrics
from cifar_lab.execution.nvml import NvmlDevice


def test_processor_and_memory_have_the_names_that_mlflow_gives_them() -> None:
    found = system_metrics.system_metrics("cpu")
    assert set(found) == {
        "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes",
        "system/system_memory_usage_percentage",
    }  # fmt: skip
    assert found["system/system_memory_usage_megabytes"] > 10
    assert 0 < found["system/system_memory_usage_percentage"] <= 100


def test_a_gpu_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [NvmlDevice("a", (9, 0), "GPU-1", 1000, 0), NvmlDevice("b", (9, 0), "GPU-2", 4_000_000, 1_000_000, 97)]
    monkeypatch.setattr(nvml, "cards", lambda: cards)
    found = system_metrics.system_metrics("cuda:1")
    assert {name: value for name, value in found.items() if "gpu" in name} == {
        "system/gpu_1_memory_usage_megabytes": 1.0, "system/gpu_1_memory_usage_percentage": 25.0,
        "system/gpu_1_utilization_percentage": 97.0,
    }  # fmt: skip
    assert "system/gpu_0_utilization_percentage" not in system_metrics.system_metrics("cuda")
    monkeypatch.setattr(nvml, "cards", lambda: None)
    assert not any("gpu" in name for name in system_metrics.system_metrics("cuda:1"))

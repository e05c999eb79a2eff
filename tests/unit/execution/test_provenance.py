"""Provenance names what moves digits, without CUDA being initialised for it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cifar_lab.execution import nvml
from cifar_lab.execution import provenance as module
from cifar_lab.execution.nvml import NvmlDevice
from cifar_lab.execution.provenance import provenance

TWO = [
    NvmlDevice(name="NVIDIA H100", capability=(9, 0), uuid="GPU-aaa", memory=80 * 2**30, used=0),
    NvmlDevice(name="Tesla T4", capability=(7, 5), uuid="GPU-bbb", memory=15 * 2**30, used=2**30),
]


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    provenance.cache_clear()
    yield
    provenance.cache_clear()


def never(*_: object) -> Any:
    raise AssertionError("CUDA is initialised for a name")


def test_gpus_are_named_by_the_driver_with_their_memory_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("get_device_name", "get_device_properties", "get_device_capability", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, never)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setattr(nvml, "cards", lambda: TWO)
    monkeypatch.setattr(nvml, "driver", lambda: "570.86.15")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch._C, "_cudnn", SimpleNamespace(getVersionInt=lambda: 91002), raising=False)
    found = provenance()
    assert found.hardware.gpus == ("NVIDIA H100", "Tesla T4")
    assert found.hardware.gpu_memory_gib == (80.0, 15.0)
    assert {name: found.versions[name] for name in ("cuda", "cudnn", "driver")} == {
        "cuda": "12.8", "cudnn": "91002", "driver": "570.86.15",
    }  # fmt: skip


def test_a_machine_without_a_gpu_has_none_of_its_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found = provenance()
    assert found.hardware.gpus == ()
    assert not {"cuda", "cudnn", "driver"} & set(found.versions)


def test_code_that_is_no_checkout_has_the_commit_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_checkout", lambda: False)
    monkeypatch.setenv("CIFAR_LAB_COMMIT", "c" * 40)
    assert (provenance().git_commit, provenance().git_dirty) == ("c" * 40, False)
    monkeypatch.delenv("CIFAR_LAB_COMMIT")
    provenance.cache_clear()
    assert provenance().git_commit is None


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, TWO),
        ("", []),
        ("1", TWO[1:]),
        ("1,0", TWO[::-1]),
        ("GPU-aaa", TWO[:1]),
        ("0,7,1", TWO[:1]),
        ("-1", []),
        ("MIG-123", None),
    ],
)
def test_only_gpus_that_cuda_sees_are_counted(selection: str | None, expected: list[NvmlDevice] | None) -> None:
    assert nvml.visible(TWO, selection) == expected


class _Driver:
    """NVML with one GPU."""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    nvmlShutdown = nvmlInit_v2  # noqa: N815

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: int, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 7 + number
        return 0

    def nvmlDeviceGetName(self, _handle: ctypes.c_void_p, text: Any, _size: int) -> int:  # noqa: N802
        text.value = b"NVIDIA H100"
        return 0

    nvmlDeviceGetUUID = nvmlDeviceGetName  # noqa: N815

    def nvmlDeviceGetCudaComputeCapability(self, _handle: ctypes.c_void_p, major: Any, minor: Any) -> int:  # noqa: N802
        major._obj.value, minor._obj.value = 9, 0
        return 0

    def nvmlDeviceGetMemoryInfo(self, _handle: ctypes.c_void_p, memory: Any) -> int:  # noqa: N802
        memory._obj.total, memory._obj.used = 80 * 2**30, 2**30
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, _size: int) -> int:  # noqa: N802
        text.value = b"570.86.15"
        return 0


def test_the_drivers_library_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_library", _Driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert nvml.cards() == [NvmlDevice("NVIDIA H100", (9, 0), "NVIDIA H100", 80 * 2**30, 2**30)]
    assert nvml.driver() == "570.86.15"


def test_without_the_library_the_kernels_file_names_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvml, "_library", lambda: None)
    monkeypatch.setattr(nvml, "DRIVER_FILE", tmp_path / "version")
    assert (nvml.cards(), nvml.driver()) == (None, None)
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024"
    (tmp_path / "version").write_text(f"{line}\nGCC version: 12\n")
    assert nvml.driver() == "550.54.15"

"""`doctor` measures the device that cells would be trained on, and names what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cifar_lab.cli import doctor as command
from cifar_lab.cli import run
from cifar_lab.execution import device_rates, nvml, provenance

GIB = 2**30
V100 = SimpleNamespace(name="Tesla V100", total_memory=16 * GIB, major=7, minor=0)
T4 = SimpleNamespace(name="Tesla T4", total_memory=15 * GIB, major=7, minor=5)


def checks(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """Run `doctor --json`; its rows by name."""
    assert run(["doctor", "--json", *options]) == code
    return {row["check"]: row for row in json.loads(capsys.readouterr().out)}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with cards that torch then sees; rates are made up."""

    def see(*cards: SimpleNamespace) -> None:
        patch = monkeypatch.setattr
        patch(torch.cuda, "is_available", lambda: True)
        patch(torch.cuda, "device_count", lambda: len(cards))
        patch(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
        patch(torch.cuda, "get_device_properties", lambda index: cards[index])
        patch(torch.cuda, "get_device_name", lambda device: cards[torch.device(device).index or 0].name)
        patch(torch.cuda, "get_device_capability", lambda device: _capability(cards[_index(device)]))
        patch(torch.version, "cuda", "13.2")
        patch(device_rates, "product", lambda _device, precision: {"fp32": 8e12, "fp16": 65e12}[precision])
        patch(device_rates, "bandwidth", lambda _device: 3e11)
        provenance.provenance.cache_clear()

    yield see
    provenance.provenance.cache_clear()


def _index(device: Any) -> int:
    return device if isinstance(device, int) else torch.device(device).index or 0


def _capability(card: SimpleNamespace) -> tuple[int, int]:
    return card.major, card.minor


def test_the_processor_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speed = checks(capsys, "--device", "cpu")["speed"]
    assert speed["device"] == "cpu"
    assert speed["gflops"]["fp32"] > 0.1
    assert "GFLOP/s in fp32" in speed["found"]


def test_a_gpu_is_named_with_what_it_has_and_what_drives_it(
    folder: Path, gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(T4)
    rows = checks(capsys)
    assert rows["cuda:0"]["found"] == "Tesla T4, 15.0 GiB, compute capability 7.5"
    assert rows["GPU software"]["cuda"] == "13.2"
    assert rows["execution"]["precision"] == "fp16"
    assert rows["speed"]["gflops"] == {"fp32": 8000.0, "fp16": 65000.0}
    assert rows["speed"]["gb_per_s"] == 300.0
    assert "65,000 GFLOP/s in fp16, 300 GB/s of memory" in rows["speed"]["found"]


def test_a_gpu_without_kernels_is_not_ok_and_the_other_one_is_measured(
    folder: Path, gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(V100, T4)
    rows = checks(capsys, code=1)
    assert {name for name, row in rows.items() if not row["ok"]} == {"cuda:0"}
    assert "no kernels" in rows["cuda:0"]["found"]
    assert rows["speed"]["device"] == "cuda:1"


def test_the_only_gpu_without_kernels_makes_the_execution_not_ok(
    folder: Path, gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(V100)
    rows = checks(capsys, code=1)
    assert {name for name, row in rows.items() if not row["ok"]} == {"cuda:0", "execution"}
    assert "speed" not in rows


def test_a_gpu_whose_memory_is_taken_is_not_measured(
    folder: Path, gpus: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(T4)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(device_rates, "product", full)
    assert "no memory is free" in checks(capsys, code=1)["speed"]["found"]


def test_a_missing_mlflow_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    row = checks(capsys, "--device", "cpu", code=1)["MLflow store"]
    assert row["found"] == "mlflow is not installed: `pip install mlflow`, or work with --offline"


@pytest.fixture
def tf32() -> Iterator[None]:
    """Allow TF32 meanwhile; the flag is no attribute that monkeypatch could put back."""
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def test_fp32_is_measured_without_tf32_and_the_flag_is_put_back(tf32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(torch, "mm", lambda *_, **__: seen.append(torch.backends.cuda.matmul.allow_tf32))
    monkeypatch.setattr(device_rates, "PATIENCE", 0)
    device_rates.product(torch.device("cpu"), "fp32", side=8)
    assert seen == [False, False]
    assert torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("free", "side"), [(80 * GIB, 8192), (4 * GIB, 8192), (2 * GIB, 4096), (GIB // 2, 2048), (0, 1024)]
)
def test_matrices_fit_into_a_quarter_of_the_memory_that_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int, side: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80 * GIB))
    assert device_rates._fitting(torch.device("cuda"), 2) == side


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\n", "580.82.07"),
        ("GCC version: 12.3.0\n", None),
        (None, None),
    ],
)
def test_the_driver_is_read_from_the_kernel_module_where_nvml_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, version: str | None
) -> None:
    monkeypatch.setattr(nvml, "_library", lambda: None)
    monkeypatch.setattr(nvml, "DRIVER_FILE", tmp_path / "version")
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert nvml.driver() == version

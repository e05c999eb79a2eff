"""Devices are found by name and number, and a GPU without kernels is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cifar_lab.cli import run
from cifar_lab.errors import UsageError
from cifar_lab.execution import nvml
from cifar_lab.execution.device import Device, find_device, gpu_models, has_kernels, missing_kernels, places
from cifar_lab.execution.settings import choose_execution

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
CUDA_12_6 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
T4, V100, H100 = ("Tesla T4", (7, 5)), ("Tesla V100", (7, 0)), ("NVIDIA H100", (9, 0))


def machine(patch: pytest.MonkeyPatch, *cards: tuple[str, tuple[int, int]], built_for: list[str] = CUDA_13) -> None:
    """Let torch see these GPUs, and have been built for these architectures."""
    patch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    patch.setattr(torch.cuda, "device_count", lambda: len(cards))
    patch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
    known = [
        SimpleNamespace(name=name, major=capability[0], minor=capability[1], total_memory=2**34)
        for name, capability in cards
    ]
    patch.setattr(torch.cuda, "get_device_properties", lambda index=0: known[index])
    patch.setattr(nvml, "cards", lambda: None)


@pytest.mark.parametrize(
    ("capability", "built_for", "expected"),
    [
        ((8, 6), ["sm_80"], True), ((8, 0), ["sm_86"], False), ((9, 0), ["sm_80", "sm_86"], False),
        ((9, 0), ["sm_90a"], True), ((10, 3), ["sm_100a"], False), ((10, 3), ["sm_100f"], True),
        ((11, 0), ["sm_100f"], False), ((12, 1), ["sm_120"], True), ((12, 1), ["compute_90"], True),
        ((10, 0), ["compute_90a"], False), ((7, 0), ["compute_75"], False), ((7, 0), CUDA_13, False),
        ((7, 5), CUDA_13, True), ((8, 9), CUDA_13, True), ((13, 0), CUDA_13, True), ((6, 1), CUDA_12_6, True),
        ((12, 0), CUDA_12_6, False), ((9, 0), ["gfx90a"], False),
    ],
)  # fmt: skip
def test_code_runs_on_later_gpus_of_its_major_version_and_ptx_on_all_later_ones(
    capability: tuple[int, int], built_for: list[str], expected: bool
) -> None:
    assert has_kernels(capability, built_for) is expected


@pytest.mark.parametrize(
    ("card", "built_for", "expected"),
    [
        (V100, CUDA_13, "a torch build for CUDA 12.6"),
        (("NVIDIA RTX 5090", (12, 0)), CUDA_12_6, "install a newer torch"),
        (("Tesla K80", (3, 7)), CUDA_13, "no wheel of torch 2"),
        (("NVIDIA A100", (8, 0)), ["sm_75", "sm_90"], "another torch build"),
    ],
)
def test_a_gpu_without_kernels_gets_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, card: tuple[str, tuple[int, int]], built_for: list[str], expected: str
) -> None:
    machine(monkeypatch, card, built_for=built_for)
    line = missing_kernels(0)
    assert line is not None
    assert "\n" not in line
    for part in (card[0], f"{card[1][0]}.{card[1][1]}", ", ".join(built_for), expected):
        assert part in line


def test_a_build_that_names_no_architecture_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, V100, built_for=[])
    assert missing_kernels(0) is None


def test_a_gpu_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, H100, T4)
    assert find_device("cuda") == find_device("auto") == Device("cuda")
    assert find_device("cuda:1") == Device("cuda", 1)
    assert places(find_device("cuda")) == ("cuda:0", "cuda:1")
    assert places(find_device("cuda:1")) == ("cuda:1",)
    assert places(find_device("cpu")) == ()


def test_the_execution_has_the_kind_of_device_and_one_worker_for_each_gpu_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, H100, T4)
    assert [choose_execution(name, "auto", 9)[1] for name in ("cuda", "cuda:1")] == [2, 1]
    assert choose_execution("cuda:1", "auto", 9, cells_per_gpu=3)[1] == 3
    assert choose_execution("cuda:1", "auto", 9)[0].device == "cuda"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cuda:9", "cuda:0 to cuda:1; did you mean 'cuda:1'?"), ("cuda:x", "named by its number, cuda:0"),
        ("cuda:-1", "named by its number"), ("cuda:", "named by its number"), ("cpu:0", "did you mean 'cpu'?"),
        ("cuda:٣", "named by its number"), ("cdua", "did you mean 'cuda'?"), ("gpu:1", "did you mean 'cuda:1'?"),
    ],
)  # fmt: skip
def test_a_gpu_that_is_not_there_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    machine(monkeypatch, H100, T4)
    with pytest.raises(UsageError) as error:
        find_device(name)
    assert expected in str(error.value)


def test_a_gpu_without_kernels_is_left_to_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, V100, T4)
    assert places(find_device("cuda")) == ("cuda:1",)
    with pytest.raises(UsageError, match=r"Tesla V100 .* by --device cpu"):
        places(find_device("cuda:0"))


@pytest.mark.parametrize("command", ["plan tiny", "run-ablation tiny --offline"])
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_no_cell_is_begun_on_a_gpu_without_kernels(
    command: str, name: str, folder: Path, few_images: Path, tiny_ablation: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    machine(monkeypatch, V100)
    line = f"{command} --ablations {tiny_ablation} --data {few_images} --device {name}"
    assert run(line.split()) == 2
    (said,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("cifar-lab: ")]
    assert "Tesla V100" in said
    assert "CUDA 12.6" in said
    assert not [path for path in (folder / "runs").glob("*") if len(path.name) == 64]


MIXED = [
    nvml.NvmlDevice(name=name, capability=capability, uuid=f"GPU-{name}", memory=2**34, used=0)
    for name, capability in (T4, H100)
]


@pytest.mark.parametrize(
    ("cards", "order", "expected"),
    [
        (MIXED[:1] * 2, "", ["Tesla T4", "Tesla T4"]),
        (MIXED, "PCI_BUS_ID", ["Tesla T4", "NVIDIA H100"]),
        (MIXED, "", ["NVIDIA H100", "Tesla T4"]),  # CUDA has the fastest first, and the driver does not say which it is
        (MIXED[:1], "", ["NVIDIA H100", "Tesla T4"]),  # the driver sees another number of GPUs than torch
    ],
)
def test_the_driver_names_the_gpus_where_its_order_is_that_of_cuda(
    monkeypatch: pytest.MonkeyPatch, cards: list[nvml.NvmlDevice], order: str, expected: list[str]
) -> None:
    machine(monkeypatch, H100, T4)
    monkeypatch.setattr(nvml, "cards", lambda: cards)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    assert [gpu.name for gpu in gpu_models()] == expected


def test_choosing_an_execution_leaves_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, H100)
    monkeypatch.setattr(nvml, "cards", lambda: MIXED[1:])

    def never(*_: object) -> None:
        raise AssertionError("the runner initialises CUDA")

    for name in ("_lazy_init", "get_device_properties", "get_device_capability", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, never)
    assert choose_execution("cuda", "auto", 10)[0].device == "cuda"
    assert places(find_device("cuda")) == ("cuda:0",)


class OneDivided:
    """NVML's functions as `_card` calls them, of one GPU that MIG divides or not."""

    def __init__(self, mode: int | None) -> None:
        if mode is not None:
            self.nvmlDeviceGetMigMode = lambda _, current, pending: self._set(current, mode)

    @staticmethod
    def _set(current: Any, mode: int) -> int:
        current._obj.value = mode
        return 0

    def __getattr__(self, name: str) -> Any:
        if name == "nvmlDeviceGetMigMode":
            raise AttributeError(name)
        return lambda *_: 0


@pytest.mark.parametrize(("mode", "is_known"), [(0, True), (1, False), (None, True)])
def test_a_gpu_that_mig_divides_is_left_to_torch(mode: int | None, is_known: bool) -> None:
    assert (nvml._card(OneDivided(mode), 0) is not None) == is_known

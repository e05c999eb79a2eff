"""Devices are found by name and number, and a GPU without kernels is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cifar_lab.cli import run
from cifar_lab.errors import UsageError
from cifar_lab.run.device import Device, find_device, has_kernels, missing_kernels, places
from cifar_lab.run.execution import choose

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
CUDA_12_6 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
T4, V100, H100 = ("Tesla T4", (7, 5)), ("Tesla V100", (7, 0)), ("NVIDIA H100", (9, 0))


def machine(patch: pytest.MonkeyPatch, *cards: tuple[str, tuple[int, int]], built_for: list[str] = CUDA_13) -> None:
    """Let torch see these GPUs, and have been built for these architectures."""
    patch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    patch.setattr(torch.cuda, "device_count", lambda: len(cards))
    patch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
    patch.setattr(torch.cuda, "get_device_name", lambda index=0: cards[index][0])
    patch.setattr(torch.cuda, "get_device_capability", lambda index=0: cards[index][1])


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
    assert [choose(name, "auto", 9)[1] for name in ("cuda", "cuda:1")] == [2, 1]
    assert choose("cuda:1", "auto", 9, cells_per_gpu=3)[1] == 3
    assert choose("cuda:1", "auto", 9)[0].device == "cuda"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cuda:9", "cuda:0 to cuda:1; did you mean 'cuda:1'?"), ("cuda:x", "named by its number, cuda:0"),
        ("cuda:-1", "named by its number"), ("cuda:", "named by its number"), ("cpu:0", "did you mean 'cpu'?"),
        ("cuda:٣", "named by its number"), ("cdua", "did you mean 'cuda'?"),
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
    with pytest.raises(UsageError, match=r"Tesla V100 .* --device cpu"):
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

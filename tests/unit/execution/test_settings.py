"""Executions are read from records of every version, and compared by what may change a digit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cifar_lab.config.execution import Execution
from cifar_lab.errors import UsageError
from cifar_lab.execution import settings as module
from cifar_lab.execution.device import Device
from cifar_lab.execution.settings import compiled
from cifar_lab.results.cell_results import are_executed_alike, read_cell_results
from cifar_lab.store.record_files import StoredExecution

OLD = {"device": "cpu", "threads": 2, "precision": "bf16", "compile": False}
GPU = Execution(device="cuda", threads=2, precision="bf16", gpu="NVIDIA H100").as_dict()


def test_a_record_without_the_newer_fields_has_their_defaults() -> None:
    stored = StoredExecution.model_validate(OLD)
    assert stored.settings == Execution(device="cpu", threads=2, precision="bf16")
    assert stored.with_defaults() == stored.settings.as_dict()
    assert stored.as_json() == OLD, "it says no more than its version did"


def test_a_record_of_a_later_version_is_read_without_what_this_one_does_not_know() -> None:
    later = StoredExecution.model_validate({**OLD, "lanes": 4})
    assert later.settings == StoredExecution.model_validate(OLD).settings


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (OLD, {**OLD, "graph": False, "gpu": None}, True),
        (OLD, {"gpu": None, "graph": False, **OLD}, True),
        (GPU, {**GPU, "graph": True}, True),
        (GPU, {**GPU, "threads": 16}, True),
        (OLD, {**OLD, "threads": 16}, False),
        (GPU, {**GPU, "compile": True}, False),
        (GPU, {**GPU, "gpu": "NVIDIA H200"}, False),
        (GPU, {**GPU, "gpu": "NVIDIA H100 then Tesla T4"}, False),
        (GPU, {**GPU, "precision": "fp32"}, False),
        (GPU, OLD, False),
    ],
)
def test_what_may_round_otherwise_is_executed_differently(runs: Any, one: Any, other: Any, alike: bool) -> None:
    cells = [runs.cell("r4", 0), runs.cell("r4", 1)]
    for asked, execution in zip(cells, (one, other), strict=True):
        runs.end(asked, 0.9, execution=execution)
    assert are_executed_alike(read_cell_results(cells, runs.folder)) is alike


def test_a_cell_that_two_models_trained_is_marked_by_itself(runs: Any) -> None:
    asked = runs.cell("r4", 0)
    runs.end(asked, 0.9, execution={**GPU, "gpu": "NVIDIA H100 then Tesla T4"})
    assert not are_executed_alike(read_cell_results([asked], runs.folder))
    assert are_executed_alike([])


@pytest.mark.parametrize(("device", "expected"), [("cuda", True), ("cpu", False)])
def test_kernels_are_not_chosen_by_timing_them_on_cuda(
    device: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setattr(torch, "compile", lambda net, **_: net)
    net: Any = SimpleNamespace(parameters=lambda: [SimpleNamespace(device=torch.device(device))])
    with config.patch(deterministic=False):
        assert compiled(net) is net
        assert config.deterministic is expected


def test_threads_of_cells_on_a_gpu_do_not_follow_from_how_many_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_device", lambda _: Device("cuda"))
    monkeypatch.setattr(module, "places", lambda _: ("cuda:0", "cuda:1"))
    (one, few), (other, many) = (module.choose_execution("cuda", "auto", 100, cells_per_gpu=each) for each in (1, 4))
    assert (few, many) == (2, 8)
    assert one == other == replace(one, gpu=None)


@pytest.mark.parametrize(
    ("busy", "reserved", "total", "cores", "expected"),
    [
        (0.2, 2, 80, 16, 5),
        (0.25, 2, 80, 16, 4),
        (0.34, 2, 80, 16, 2),
        (0.51, 2, 80, 16, 1),
        (1.02, 2, 80, 16, 1),
        (0.01, 2, 80, 16, 8),  # at most eight
        (0.2, 14, 80, 16, 4),  # 72 GiB of 80 hold four of 14.5
        (0.2, 90, 80, 16, 1),  # a cell that may not fit at all is still tried
        (0.2, 2, 80, 3, 3),  # each needs a core
        (0.2, 2, 80, 0, 1),
        (0.0, 2, 80, 16, 1),  # nothing was measured
    ],
)
def test_cells_share_a_gpu_as_far_as_it_idles_and_memory_and_cores_permit(
    busy: float, reserved: int, total: int, cores: int, expected: int
) -> None:
    assert module.cells_per_gpu(busy, reserved * 2**30, total * 2**30, cores) == expected


def test_a_graph_is_asked_for_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^graph: only CUDA has graphs, and this trains on cpu"):
        module.choose_execution("cpu", "1", 1, graph=True)
    assert not module.choose_execution("cpu", "1", 1)[0].graph
    monkeypatch.setattr(module, "find_device", lambda _: Device("cuda"))
    monkeypatch.setattr(module, "places", lambda _: ("cuda:0",))
    assert [module.choose_execution("cuda", "1", 1, graph=each)[0].graph for each in (None, True, False)] == [
        True,
        True,
        False,
    ]

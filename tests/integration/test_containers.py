"""The services of docker/compose.yaml in containers, by a Docker engine and images that are there.

The images are those that `docker compose -f docker/compose.yaml --profile ablation build` makes; nothing is built or
pulled here. `CIFAR_LAB_COMPOSE_MORE` may name one more Compose file, for example one that takes PostgreSQL's image
from a mirror.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

DOCKER = Path(__file__).parents[2] / "docker"
IMAGES = ("cifar-lab:cpu", "cifar-lab:tracking", "cifar-lab:storage")
ABLATION = ["run-ablation", "se_ratio", "--variants", "r16,none", "--seeds", "0"]
TINY = ["--scale", "smoke", "model.width=8", "model.blocks=[1]", "train.epochs=1", "--workers", "1", "--yes"]
PATIENCE = 900.0
"""Seconds that a command may take; a machine with two cores needs about a minute for each."""


@dataclass(frozen=True)
class _Project:
    """A Compose project of its own: a copy of docker/ with secrets, volumes and a port that no other project has."""

    folder: Path
    port: int
    line: tuple[str, ...]

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CIFAR_LAB_MLFLOW_PORT": str(self.port), "COMPOSE_PROGRESS": "quiet"}
        done = subprocess.run(
            [*self.line, *words], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
        return done

    def lab(self, service: str, *words: str) -> str:
        """Return what `cifar-lab` with `words` prints in a new container of `service`."""
        return self.compose("run", "--rm", "--no-TTY", service, *words).stdout

    def inside(self, service: str, program: str) -> subprocess.CompletedProcess[str]:
        """Run a shell's `program` in the running container of `service`."""
        return self.compose("exec", "--no-TTY", service, "sh", "-c", program, check=False)

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text()

    def get(self, path: str, user: str = "", password: str = "") -> tuple[int, bytes]:
        """Return the status and the body with which MLflow answers this machine."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if user:
            asked.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
        try:
            with urllib.request.urlopen(asked, timeout=60) as reply:
                return int(reply.status), reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def runs(self, experiment: str) -> list[Any]:
        """Return the runs that MLflow shows the account that trains."""
        known = ("lab", self.secret("mlflow_password"))
        api = "/api/2.0/mlflow"
        (_, body) = self.get(f"{api}/experiments/get-by-name?experiment_name={experiment}", *known)
        number = json.loads(body)["experiment"]["experiment_id"]
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{api}/runs/search", json.dumps({"experiment_ids": [number]}).encode(),
            {"Content-Type": "application/json",
             "Authorization": "Basic " + base64.b64encode(":".join(known).encode()).decode()},
        )  # fmt: skip
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return list(json.loads(reply.read())["runs"])


def _require_engine() -> str:
    """Return Docker Compose's program; skip where it, an engine or an image is not there."""
    program = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None or shutil.which("docker") is None:
        pytest.skip("Docker or Docker Compose is not installed")
    for words, lack in [
        (["info"], "no Docker engine answers"),
        *((["image", "inspect", i], f"no {i}") for i in IMAGES),
    ]:
        if subprocess.run(["docker", *words], capture_output=True, check=False).returncode != 0:
            pytest.skip(f"{lack}: docker compose -f docker/compose.yaml --profile ablation build")
    return program


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Project]:
    program = _require_engine()
    folder = tmp_path_factory.mktemp("containers") / "docker"
    shutil.copytree(DOCKER, folder, ignore=shutil.ignore_patterns("secrets", ".env"))
    folder.parent.chmod(0o755)
    subprocess.run([folder / "make_secrets.sh"], check=True, capture_output=True)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    more = os.environ.get("CIFAR_LAB_COMPOSE_MORE")
    files = [str(folder / "compose.yaml"), *([more] if more else [])]
    name = f"cifar-lab-test-{os.getpid()}"
    named = (program, "--project-name", name, "--profile", "*", *(word for file in files for word in ("-f", file)))
    made = _Project(folder, port, named)
    try:
        made.compose("up", "--detach", "--no-build", "--wait", "mlflow")
        made.compose("run", "--rm", "--no-TTY", "accounts")
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "10")


@pytest.fixture(scope="module")
def trained(project: _Project) -> str:
    """Output of an ablation with two cells of a tiny network."""
    return project.lab("ablation", *ABLATION, *TINY)


def test_runs_and_artifacts_arrive(project: _Project, trained: str) -> None:
    runs = project.runs("se_ratio")
    cells = {run["info"]["run_name"]: run for run in runs if "/" in run["info"]["run_name"]}
    assert set(cells) == {"r16/s0", "none/s0"}
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    (invocation,) = (run for run in runs if run["info"]["run_name"] not in cells)
    page = f"/get-artifact?path=report.html&run_uuid={invocation['info']['run_id']}"
    status, body = project.get(page, "lab", project.secret("mlflow_password"))
    assert (status, b"se_ratio" in body) == (200, True)
    table = project.lab("ablation", "compare", "se_ratio", "--scale", "smoke", "--format", "csv")
    assert "r16" in table


def test_trained_cells_are_not_trained_again(project: _Project, trained: str) -> None:
    """The volume keeps them for the next container."""
    again = project.compose("run", "--rm", "--no-TTY", "ablation", *ABLATION, *TINY)
    assert "2 done already" in again.stdout + again.stderr


def test_a_file_comes_out_of_the_runs(project: _Project, trained: str) -> None:
    project.compose("create", "--no-build", "ablation")
    project.compose("cp", "ablation:/var/lib/cifar-lab/runs", str(project.folder.parent / "out"))
    assert list((project.folder.parent / "out").glob("*/result.json"))


def test_the_server_asks_for_a_password(project: _Project) -> None:
    answers = [
        project.get("/", *known)[0] for known in ((), ("lab", "wrong"), ("lab", project.secret("mlflow_password")))
    ]
    assert answers == [401, 401, 200]


def test_services_are_confined(project: _Project) -> None:
    """No service is root, has a capability, or can write outside its volumes."""
    for service in ("postgres", "s3", "mlflow"):
        assert project.inside(service, "id -u").stdout.strip() != "0", service
        assert set(project.inside(service, "grep Cap /proc/1/status").stdout.split()[1::2]) == {"0" * 16}, service
        assert "Read-only" in project.inside(service, "touch /usr/new").stderr, service
    for service, code in (("mlflow", 0), ("postgres", 1)):
        found = project.inside(service, "getent hosts s3 > /dev/null || exit 1")
        assert found.returncode == code, (service, "S3 is on a network that MLflow alone shares")


def test_two_containers_share_a_search(project: _Project) -> None:
    line = ["worker", "sweep", "--study", "shared", "--trials", "4", "--scale", "smoke", "--workers", "1", "--yes"]
    first = project.compose("run", "--detach", *line).stdout.split()[-1]
    second = project.compose("run", "--rm", "--no-TTY", *line)
    ended = subprocess.run(["docker", "wait", first], capture_output=True, text=True, timeout=PATIENCE, check=True)
    logs = subprocess.run(["docker", "logs", first], capture_output=True, text=True, check=True)
    subprocess.run(["docker", "rm", first], capture_output=True, check=True)
    assert ended.stdout.strip() == "0", logs.stderr
    for said in (logs.stdout + logs.stderr, second.stdout + second.stderr):
        assert "trial" in said
    assert "shared" in project.lab("worker", "sweep-status")


def test_data_outlive_the_containers(project: _Project, trained: str) -> None:
    project.compose("down", "--timeout", "30")
    project.compose("up", "--detach", "--no-build", "--wait", "mlflow")
    assert {run["info"]["status"] for run in project.runs("se_ratio")} == {"FINISHED"}


def test_no_secret_is_in_a_container_or_a_log(project: _Project) -> None:
    shown = project.compose("logs", "--no-color").stdout
    numbers = project.compose("ps", "--all", "--quiet").stdout.split()
    assert len(numbers) >= 3
    shown += subprocess.run(["docker", "inspect", *numbers], capture_output=True, text=True, check=True).stdout
    for image in IMAGES:
        shown += subprocess.run(
            ["docker", "history", "--no-trunc", image], capture_output=True, text=True, check=True
        ).stdout
    for path in (project.folder / "secrets").iterdir():
        assert path.read_text() not in shown, path.name

"""docker/kubernetes.yaml and docker/skypilot.yaml: valid by their schemas, in line with the image and the program."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cifar_lab.cli.app import app

DOCKER = Path(__file__).parents[2] / "docker"
RESOURCES: list[dict[str, Any]] = list(yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text()))
SKY: dict[str, Any] = yaml.safe_load((DOCKER / "skypilot.yaml").read_text())
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def _resource(kind: str) -> dict[str, Any]:
    (resource,) = (each for each in RESOURCES if each["kind"] == kind)
    return resource


JOB = _resource("Job")["spec"]
POD = JOB["template"]["spec"]
(CONTAINER,) = POD["containers"]


def _require_known(words: list[str]) -> None:
    """Check that the program has the command and each option."""
    command = typer.main.get_command(app).commands[words[0]]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource["kind"])
def test_kubernetes_takes_each_resource(resource: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="not installed: pip install kubernetes-validate")
    latest = validator.latest_version()
    validator.validate(resource, latest, strict=True)
    with pytest.raises(validator.ValidationError):
        validator.validate({**resource, "spec": {**resource["spec"], "surplus": 1}}, latest, strict=True)


def test_each_pod_trains_a_seed_of_its_own() -> None:
    _require_known(CONTAINER["args"])
    assert JOB["completionMode"] == "Indexed"
    assert JOB["parallelism"] <= JOB["completions"]
    (seed,) = (each for each in CONTAINER["env"] if each["name"] == "SEED")
    assert "job-completion-index" in seed["valueFrom"]["fieldRef"]["fieldPath"]
    assert "--seeds=$(SEED)" in CONTAINER["args"]


def test_pods_share_a_volume_at_the_places_of_the_image() -> None:
    claim = _resource("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (storage,) = (each for each in POD["volumes"] if "persistentVolumeClaim" in each)
    assert storage["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    shared = {mount["mountPath"] for mount in CONTAINER["volumeMounts"] if mount["name"] == storage["name"]}
    assert shared == set(re.findall(r"CIFAR_LAB_(?:RUNS|CACHE)=(\S+)", DOCKERFILE))
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_a_pod_has_no_rights_to_spare() -> None:
    assert f"USER {POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}" in DOCKERFILE
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    own = CONTAINER["securityContext"]
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert own["capabilities"] == {"drop": ["ALL"]}


def test_the_password_of_a_pod_comes_from_a_secret_that_no_file_holds() -> None:
    assert not [each for each in RESOURCES if each["kind"] == "Secret"]
    variables = {each["name"]: each for each in CONTAINER["env"]}
    path = Path(variables["MLFLOW_TRACKING_PASSWORD_FILE"]["value"])
    assert '"${MLFLOW_TRACKING_PASSWORD_FILE:-}"' in (DOCKER / "entrypoint.sh").read_text()
    (secret,) = (each["secret"] for each in POD["volumes"] if "secret" in each)
    assert [item["path"] for item in secret["items"]] == [path.name]
    (mount,) = (each for each in CONTAINER["volumeMounts"] if each["name"] == "secret")
    assert mount["mountPath"] == str(path.parent)
    made = next(line for line in (DOCKER / "kubernetes.yaml").read_text().splitlines() if "create secret" in line)
    assert f"generic {secret['secretName']} " in made
    assert all(item["key"] in made for item in secret["items"])
    assert variables["MLFLOW_TRACKING_USERNAME"]["valueFrom"]["secretKeyRef"]["key"] in made


def test_skypilot_takes_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # it writes its settings there
    sky = pytest.importorskip("sky", reason="not installed: pip install skypilot")
    task = sky.Task.from_yaml(str(DOCKER / "skypilot.yaml"))
    assert (task.name, set(task.storage_mounts)) == ("cifar-lab", {"~/runs"})


def test_the_task_of_skypilot_is_shell_that_uses_what_it_declares() -> None:
    for part in ("setup", "run"):
        checked = subprocess.run(["bash", "-n"], input=SKY[part], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
    words = shlex.split(SKY["run"].replace("\\\n", " ").partition("$([")[0])
    _require_known(words[1:])
    assert words[words.index("--runs") + 1] in SKY["file_mounts"]
    assert set(re.findall(r"\$(\w+)", SKY["run"])) == set(SKY["envs"])
    assert not any(SKY["secrets"].values())
    (constraints,) = re.findall(r"--constraint (\S+)", SKY["setup"])
    assert (DOCKER.parent / constraints).is_file()

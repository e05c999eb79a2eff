"""`--runs` with an address: what is taken, and what is refused in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from made.tiny_cells import tiny_job

from cifar_lab import api
from cifar_lab.cli import run
from cifar_lab.errors import UsageError
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.object_store import parse_address
from cifar_lab.store.mirror import open_mirror


def _refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command is refused."""
    assert run(line) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("cifar-lab: ")
    return error


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("gs://bucket/runs", "conditional writes"),
        ("az://bucket/runs", "conditional writes"),
        ("memory://runs", "gone with this process"),
        ("https://example.org/runs", "web server"),
        ("s3://", "s3://BUCKET/PATH"),
        ("s3://Bucket_/runs", "s3://BUCKET/PATH"),
        ("s3://key:secret@bucket/runs", "credentials do not belong"),
        ("s3://bucket/../runs", "neither . nor .."),
        ("file://runs", "absolute"),
    ],
)
def test_other_addresses_are_refused_with_the_reason(
    address: str, words: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    error = _refused(["status", "--runs", address], capsys)
    assert words in error
    assert "secret" not in error
    assert list(folder.iterdir()) == []


def test_addresses_have_one_form() -> None:
    assert parse_address("s3://bucket//a/b/", "--runs") == "s3://bucket/a/b"
    assert parse_address("s3://bucket", "--runs") == "s3://bucket"
    assert parse_address("file:///a%20b/c", "--runs") == Path("/a b/c")


def test_a_file_address_is_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    assert len(api.load_runs(f"file://{tmp_path}/runs")) == 0
    assert run(["status", "--runs", f"file://{tmp_path}/runs"]) == 0
    assert f"nothing has been run in {tmp_path}/runs" in capsys.readouterr().out


def test_a_command_that_needs_a_folder_says_so(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    error = _refused(["fsck", "--runs", "s3://bucket/runs"], capsys)
    assert "--runs s3://bucket/runs: `fsck` needs a folder" in error


@pytest.mark.parametrize("line", ["sweep", "sweep-status", "sweep-best s", "ablate-best s", "sweep-confirm s"])
def test_a_study_beside_a_store_needs_a_storage(
    line: str, address: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    error = _refused([*line.split(), "--runs", address], capsys)
    assert f"--runs {address}: a study beside it needs --storage" in error


def test_without_the_package_one_line_names_the_extra(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    assert "pip install 'cifar-lab[s3]'" in _refused(["status", "--runs", "s3://bucket-without/runs"], capsys)


def test_a_bucket_that_is_not_there_is_named(s3: object, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    error = _refused(["status", "--runs", "s3://none-of-this-name/runs"], capsys)
    assert "there is no bucket 'none-of-this-name'" in error


def test_missing_credentials_are_named(
    s3: object, capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(folder / "none"))
    assert "no credentials: set AWS_ACCESS_KEY_ID" in _refused(["status", "--runs", "s3://lab-records/x"], capsys)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_named(
    s3: object, capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    error = _refused(["status", "--runs", "s3://lab-records/x"], capsys)
    assert "Could not connect to the endpoint" in error


@pytest.fixture
def on_store(address: str, few_images: Path) -> CellJob:
    """The job of a finished cell that is on the store."""
    job = tiny_job(open_mirror(address), few_images)
    train_cell(job)
    return job


def test_readers_take_the_address_and_name_it(
    on_store: CellJob, address: str, capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_LAB_RUNS", address)
    assert run(["tail", on_store.fingerprint[:12], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
    assert run(["predict", on_store.fingerprint[:12], "-i", str(on_store.data), "-o", "answers.csv"]) == 0
    assert (folder / "answers.csv").exists()
    capsys.readouterr()
    assert run(["compare", "se_ratio"]) == 2
    error = capsys.readouterr().err
    assert f"'se_ratio' has not been run in {address}" in error, "not the path of the copy"
    error = _refused(["evaluate", on_store.fingerprint[:12], "--train-logits"], capsys)
    assert "needs a folder" in error
    assert run(["status"]) == 0
    assert f"nothing has been run in {address}" in capsys.readouterr().out


def test_the_python_api_takes_the_address(on_store: CellJob, address: str) -> None:
    (cell,) = api.load_runs(address)
    assert cell.fingerprint == on_store.fingerprint
    assert cell.network() is not None
    assert api.load_cell(on_store.fingerprint[:12], runs=address).metrics == cell.metrics
    with pytest.raises(UsageError, match="gs://"):
        api.load_runs("gs://bucket/runs")


def test_slurm_needs_a_folder(address: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    line = ["run-ablation", "se_ratio", "--engine", "slurm", "--scale", "smoke", "--time", "10", "--runs", address]
    assert "needs a folder that all nodes share" in _refused(line, capsys)


def test_commands_to_go_on_with_have_the_address(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_lab.cli.training import option_words

    runs = open_mirror(address)
    assert option_words(None, None, "auto", "auto", "auto", runs, None) == ("--runs", address)

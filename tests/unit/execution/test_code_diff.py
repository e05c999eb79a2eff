"""The recorded changes of the code hold no secret, are bounded, and need no UTF-8."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_lab.execution import provenance as module
from cifar_lab.execution.code_diff import LONGEST, cleaned


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository of one commit in place of ours, with the folders whose changes are recorded."""
    (tmp_path / "cifar_lab").mkdir()
    (tmp_path / "ablations").mkdir()
    (tmp_path / "cifar_lab" / "__init__.py").write_text("")
    for name in ("x.py", "secrets.yaml", "deploy.pem", ".env.local"):
        (tmp_path / "ablations" / name).write_text("a = 1\n")
    for command in ("init -q", "add -A -f", "-c user.name=a -c user.email=a@b commit -q -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "cifar_lab")
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    for cached in (module.provenance, module.code_diff, module.warning):
        cached.cache_clear()


SECRETS = (
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "postgresql://me:hunter2@host/db",
    "postgresql://me:12345/hunter2@host/db",
    'api_key = "f3a9c1d84b7e"',
    "x = 'wJalrXUtnFEMIK7MDENGbPxRfiCYzzEXAMPLEKEYq8'",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_file_with_a_secret_is_left_out_with_a_line_and_the_others_stay(checkout: Path, secret: str) -> None:
    (checkout / "ablations" / "x.py").write_text(f"a = 2\n{secret}\n")
    (checkout / "cifar_lab" / "__init__.py").write_text("LR = 0.1\n")
    diff = module.code_diff()
    assert secret not in diff
    assert "diff --git a/ablations/x.py b/ablations/x.py\n# left out: " in diff
    assert "+LR = 0.1" in diff


@pytest.mark.parametrize("name", ["secrets.yaml", "deploy.pem", ".env.local"])
def test_a_file_that_holds_secrets_by_custom_is_left_out(checkout: Path, name: str) -> None:
    (checkout / "ablations" / name).write_text("harmless\n")
    assert "harmless" not in module.code_diff()
    assert "# left out: files of this name hold secrets by custom" in module.code_diff()


@pytest.mark.parametrize(
    "line",
    [
        'FINGERPRINT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
        "def test_a_difference_of_two_cells_that_were_trained_in_Two_Runs_2026() -> None:",
        "https://user@host.org/a/path/that/is/long/enough/to/look/like/a/token",
        'password = getpass("the password of the database")',
        "uri = f'http://{user}:{password}@host'",
    ],
)
def test_usual_code_is_kept(checkout: Path, line: str) -> None:
    (checkout / "ablations" / "x.py").write_text(line + "\n")
    assert f"+{line}" in module.code_diff()


def test_a_byte_that_is_not_utf_8_stops_nothing(checkout: Path) -> None:
    (checkout / "ablations" / "x.py").write_bytes("# Gr\xf6\xdfe\n".encode("latin-1"))
    assert "+# Gr\ufffd\ufffde" in module.code_diff()
    assert module.provenance().git_dirty is True


def test_a_long_diff_is_cut_with_a_line() -> None:
    diff = "diff --git a/x b/x\n" + "+word word word\n" * 100_000
    kept = cleaned(diff)
    assert len(kept) < LONGEST + 100
    assert kept.splitlines()[-1] == f"# cut: {len(diff) - LONGEST:,} more characters were changed"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_checkout_of_another_user_is_recorded(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in [checkout, *checkout.rglob("*")]:
        os.chown(path, 4321, 4321)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    assert len(str(module.provenance().git_commit)) == 40
    assert module.warning() is None


def test_a_checkout_that_git_cannot_read_is_a_warning_with_the_reason(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / ".git" / "HEAD").write_text("broken")
    assert "not a git repository" in str(module.warning())
    _forget()
    monkeypatch.setenv("PATH", str(checkout))
    assert str(module.warning()).endswith("git is not installed")


def test_what_is_no_checkout_is_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "cifar_lab")
    _forget()
    assert module.warning() is None
    _forget()

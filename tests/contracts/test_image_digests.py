"""docker/image_digests.py: writes what the registry says, or nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
FAKE = """#!/bin/sh
echo "$*" >> "$0.log"
case "$*" in
    *{refused}*) echo "ERROR: {refused}: not found" >&2; exit 1 ;;
    *) echo "{answer}" ;;
esac
"""


def _run(folder: Path, *words: str, answer: str = DIGEST, refused: str = "nothing-of-it") -> tuple[int, str, str]:
    """Run a copy of the script in `folder`, with a `docker` that gives `answer` unless an image is `refused`."""
    (folder / "bin").mkdir(exist_ok=True)
    docker = folder / "bin" / "docker"
    docker.write_text(FAKE.format(answer=answer, refused=refused))
    docker.chmod(0o755)
    line = [sys.executable, str(folder / "image_digests.py"), *words]
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(line, env={"PATH": path}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The script and its two files, in which nothing is pinned, whatever is in the checkout."""
    shutil.copy(DOCKER / "image_digests.py", tmp_path)
    for name in ("Dockerfile", "compose.yaml"):
        text = (DOCKER / name).read_text()
        (tmp_path / name).write_text(re.sub("@sha256:[0-9a-f]{64}$", "", text, flags=re.MULTILINE))
    return tmp_path


def _texts(folder: Path) -> str:
    return (folder / "Dockerfile").read_text() + (folder / "compose.yaml").read_text()


def test_each_image_of_others_gets_its_digest_behind_its_tag(folder: Path) -> None:
    before = _texts(folder)
    code, said, errors = _run(folder)
    assert (code, errors) == (0, "")
    assert [line.split()[1] for line in said.splitlines()] == [DIGEST] * 3
    assert _texts(folder).count(f"@{DIGEST}") == 3
    assert _texts(folder).replace(f"@{DIGEST}", "") == before
    asked = [line.split()[-1].partition(":")[0] for line in (folder / "bin" / "docker.log").read_text().splitlines()]
    assert sorted(asked) == ["chrislusf/seaweedfs", "postgres", "python"]
    assert _run(folder, "--check")[0] == 0


def test_a_digest_that_is_there_is_renewed(folder: Path) -> None:
    other = f"sha256:{'f' * 64}"
    assert _run(folder)[0] == 0
    assert _run(folder, answer=other)[0] == 0
    assert (_texts(folder).count(other), _texts(folder).count(DIGEST)) == (3, 0)


@pytest.mark.parametrize("how", [{"refused": "postgres"}, {"answer": "sha256:short"}, {"answer": ""}])
def test_nothing_is_written_if_one_digest_cannot_be_had(folder: Path, how: dict[str, str]) -> None:
    before = _texts(folder)
    code, _, errors = _run(folder, **how)
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert "nothing is changed" in errors
    assert _texts(folder) == before


def test_the_check_names_what_is_not_pinned_and_asks_nobody(folder: Path) -> None:
    code, said, _ = _run(folder, "--check")
    assert code == 1
    assert said.count("is not pinned") == 3
    assert not (folder / "bin" / "docker.log").exists()


def test_without_docker_there_is_one_line(folder: Path) -> None:
    line = [sys.executable, str(folder / "image_digests.py")]
    done = subprocess.run(line, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "docker cannot be started" in done.stderr


def test_every_image_of_the_checkout_is_pinned() -> None:
    line = [sys.executable, str(DOCKER / "image_digests.py"), "--check"]
    assert subprocess.run(line, capture_output=True, check=False).returncode == 0

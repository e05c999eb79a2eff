"""Installed as a wheel somewhere else, the commands and the built-in ablations are there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]


def test_a_wheel_installed_elsewhere_lists_the_built_in_ablations(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(HOUSE)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    listed = subprocess.run(
        [sys.executable, "-P", "-m", "cifar_lab", "list", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    names = {entry["name"] for entry in json.loads(listed.stdout)}
    assert names == {path.stem for path in (HOUSE / "ablations").glob("[!_]*.py")}
    where = "import cifar_lab; from cifar_lab.ablation.registry import built_in; print(cifar_lab.__file__, built_in())"
    found = subprocess.run(
        [sys.executable, "-P", "-c", where],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.count(str(site)) == 2, "the checkout was found, not the wheel"
    tops = {path.name for path in site.iterdir() if path.is_dir() and path.suffix != ".dist-info"}
    assert tops - {"bin", "__pycache__"} == {"cifar_lab"}, "a wheel with a second top-level package"
    assert (site / "cifar_lab" / "py.typed").is_file()
    (metadata,) = site.glob("cifar_lab-*.dist-info/METADATA")
    text = metadata.read_text()
    assert "## Five minutes" in text
    assert not re.findall(r"\]\((?!https?:)[^)]*\)", text), "a package index has no file for a relative link or picture"


USERS = """
from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

ABLATION = Ablation(
    question="Does smoothing matter?", source="own idea", baseline=EFFICIENT_RESNET,
    factors=("train.label_smoothing",), control="off",
    variants=(Variant(name="off"), Variant(name="on", diff={"train.label_smoothing": 0.1})),
)
reveal_type(ABLATION.baseline.train.label_smoothing)
ABLATION.controls
"""


@pytest.mark.slow
def test_mypy_checks_a_users_ablation_against_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(HOUSE)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "own")], check=True)
    (site,) = (tmp_path / "own").glob("lib/python*/site-packages")
    # What the package needs is found beside it, as in an installation.
    (site / "needs.pth").write_text(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (tmp_path / "mine.py").write_text(USERS)
    command = [
        sys.executable, "-P", "-m", "mypy", "--strict", "--config-file", os.devnull,
        "--python-executable", str(tmp_path / "own/bin/python"), "mine.py",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'Revealed type is "float"' in done.stdout or 'Revealed type is "builtins.float"' in done.stdout, done.stdout
    assert '"Ablation" has no attribute "controls"' in done.stdout, "mypy sees no types of the package"
    assert "Found 1 error" in done.stdout, done.stdout

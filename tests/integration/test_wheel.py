"""Installed as a wheel somewhere else, the commands and the built-in ablations are there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
    where = "import cifar_lab, ablations; print(cifar_lab.__file__, ablations.__file__)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", where],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.count(str(site)) == 2, "the checkout was found, not the wheel"

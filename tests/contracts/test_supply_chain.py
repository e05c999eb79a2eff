"""Dependencies of an installation: permissive licences, a lower bound for each version, and a bill of materials."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
USERS_EXTRAS = ("postgres", "onnx", "notify")
"""The extras that a user installs; `dev` and `bench` stay with developers."""
PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC\b|Python Software Foundation|\bPSF|Zlib|CC0|BSL-1\.0|Unlicense", flags=re.IGNORECASE
)
WEAK_COPYLEFT = {"certifi": "MPL", "tqdm": "MPL", "psycopg": "LGPL", "psycopg-binary": "LGPL"}
"""Used as they are, as these licences ask: changes to their own files would have to be published."""
NOT_IN_METADATA = {"huey": "MIT", "skops": "MIT", "cuda-toolkit": "NVIDIA"}
"""Packages whose metadata names no licence, and the licence that their project states."""
VENDOR = re.compile(r"nvidia-|cuda-(toolkit|bindings)$")
"""NVIDIA's libraries, which torch's CUDA build installs; their licence permits use and is not an open one."""


def closure(name: str, extras: tuple[str, ...] = ()) -> Iterator[Distribution]:
    """Yield each installed distribution that `name` needs, each once, `name` itself left out."""
    seen = {canonicalize_name(name)}
    below = [(name, extras)]
    while below:
        parent, wanted = below.pop()
        for line in distribution(parent).requires or []:
            needed = Requirement(line)
            applies = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted))
            key = canonicalize_name(needed.name)
            if not applies or key in seen:
                continue
            seen.add(key)
            try:
                yield distribution(needed.name)
            except PackageNotFoundError:
                continue  # an extra that is not installed here
            below.append((needed.name, tuple(needed.extras)))


def licence(package: Distribution) -> str:
    """Return what the metadata of `package` says of its licence: the expression, else classifiers, else the text."""
    fields = package.metadata
    classifiers = [line.split(" :: ")[-1] for line in fields.get_all("Classifier") or [] if line.startswith("License")]
    named = [line for line in classifiers if line != "OSI Approved"]
    text = (fields.get("License-Expression") or "; ".join(named) or fields.get("License") or "").splitlines()
    return text[0] if text else NOT_IN_METADATA.get(canonicalize_name(package.name), "")


def is_accepted(name: str, text: str) -> bool:
    """Tell whether a package of that name may be needed under the licence that `text` names."""
    if VENDOR.match(name) and ("NVIDIA" in text or text == "Other/Proprietary License"):  # CUDA 12's say no more
        return True
    if "GPL" in text or "MPL" in text:
        return name in WEAK_COPYLEFT and WEAK_COPYLEFT[name] in text and not re.search(r"(?<!L)GPL", text)
    return PERMISSIVE.search(text) is not None


PACKAGES = {canonicalize_name(package.name): licence(package) for package in closure("cifar-lab", USERS_EXTRAS)}


def test_an_installation_brings_what_is_declared() -> None:
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= PACKAGES.keys()


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_every_package_that_an_installation_brings_has_an_accepted_licence(name: str) -> None:
    assert is_accepted(name, PACKAGES[name]), PACKAGES[name]


@pytest.mark.parametrize("text", ["GPL-3.0-only", "AGPL-3.0", "LGPL-3.0-only", "MPL-2.0", "SSPL", ""])
def test_a_licence_that_is_not_accepted_is_noticed(text: str) -> None:
    assert not is_accepted("newcomer", text)


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_each_dependency_has_a_lower_bound_and_no_pin(line: str) -> None:
    operators = {specifier.operator for specifier in Requirement(line).specifier}
    assert ">=" in operators
    assert not operators & {"==", "<", "<=", "~=", "==="}


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_the_locked_version_is_one_that_is_admitted(line: str) -> None:
    needed = Requirement(line)
    locked = [Requirement(entry) for entry in (ROOT / "requirements.lock").read_text().splitlines() if entry[:1] != "#"]
    versions = [str(entry.specifier).removeprefix("==") for entry in locked if entry.name == needed.name]
    assert versions
    assert all(needed.specifier.contains(version) for version in versions)


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_has_every_package(tmp_path: Path) -> None:
    """The command of `make sbom` describes this environment, and its result is a document of CycloneDX's schema."""
    validation = pytest.importorskip("cyclonedx.validation.json", reason="not installed: pip install cyclonedx-bom")
    pytest.importorskip("cyclonedx_py", reason="not installed: pip install cyclonedx-bom")
    from cyclonedx.model.bom import Bom
    from cyclonedx.schema import SchemaVersion

    recipe = re.search(r"^\t\$\(BIN\)/cyclonedx-py (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    file = tmp_path / "sbom.json"
    words = [{"sbom.json": str(file), "$(SBOM_OF)": sys.executable}.get(word, word) for word in shlex.split(recipe[1])]
    line = [sys.executable, "-m", "cyclonedx_py", *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = file.read_text()
    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"version": "', '"verzion": "')) is not None
    bom: Bom = Bom.from_json(json.loads(text))
    assert bom.metadata.component is not None
    assert bom.metadata.component.name == PROJECT["name"]
    named = {canonicalize_name(component.name): component.version for component in bom.components}
    assert named.keys() >= PACKAGES.keys()
    assert {name: named[name] for name in PACKAGES} == {name: distribution(name).version for name in PACKAGES}

"""The source that identifies an extension holds the module that is named, whatever makes the factory."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_lab import extension
from cifar_lab.errors import RecipeError

PARTS = """
import functools

class Net:
    def __init__(self, *, classes: int, width: int = 8) -> None: ...
    @classmethod
    def small(cls, *, classes: int) -> "Net":
        return cls(classes=classes, width=4)

def net(*, classes: int, width: int = 8): ...

def unnamed(function):
    def inner(**options):
        return function(**options)
    return inner

def named(function):
    @functools.wraps(function)
    def inner(**options):
        return function(**options)
    return inner

def made(width: int):
    def inner(*, classes: int): ...
    return inner

def class_of(width: int):
    class Made(Net): ...
    return Made

class Builder:
    def __init__(self, width: int) -> None: ...
    def __call__(self, *, classes: int): ...
    def build(self, *, classes: int): ...
"""
ZOO = """
import functools
import own_parts
from own_parts import Net, net
from cifar_lab.extension import Extension

def own(*, classes: int, width: int = 8): ...

class Own:
    def __init__(self, *, classes: int) -> None: ...
    def __call__(self, *, classes: int): ...
    @classmethod
    def small(cls, *, classes: int): ...

@functools.cache
def cached(*, classes: int): ...

@own_parts.named
def decorated(*, classes: int): ...

class Child(Net):
    def forward(self): ...

def _local():
    def inner(*, classes: int): ...
    return inner

local = _local()
anonymous = lambda *, classes: None
instance = Own(classes=1)
extended = Extension(factory=own)

partial = functools.partial(own, width=16)
partial_of_other = functools.partial(own_parts.net, width=16)
partial_of_partial = functools.partial(partial_of_other, width=4)
renamed = functools.update_wrapper(functools.partial(net, width=16), net)
unwrapped = own_parts.unnamed(own)
wrapped = own_parts.named(net)
closure = own_parts.made(16)
class_made = own_parts.class_of(16)
builder = own_parts.Builder(16)
bound = builder.build
extended_other = Extension(factory=net)
"""
PLAIN = (
    "own_zoo:own", "own_zoo:Own", "own_zoo:Own.small", "own_zoo:cached", "own_zoo:decorated", "own_zoo:Child",
    "own_zoo:local", "own_zoo:anonymous", "own_zoo:instance", "own_zoo:extended", "own_zoo:partial",
)  # fmt: skip
"""Factories whose code is in the named module alone."""
SHARED = (
    "own_zoo:partial_of_other", "own_zoo:partial_of_partial", "own_zoo:renamed", "own_zoo:unwrapped", "own_zoo:wrapped",
    "own_zoo:closure", "own_zoo:class_made", "own_zoo:builder", "own_zoo:bound", "own_zoo:extended_other",
    "own_zoo:Child.small",
)  # fmt: skip
"""Factories with code in the named module and in another one."""
REEXPORTED = ("own_zoo:net", "own_zoo:Net", "own_zoo:Net.small")
"""Functions and classes of another module, whose code alone matters."""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with two modules of a user, one of which imports the other."""
    (tmp_path / "own_parts.py").write_text(PARTS)
    (tmp_path / "own_zoo.py").write_text(ZOO)
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Forget the modules and their hashes, as another process would not know them."""
    for name in ("own_parts", "own_zoo", "own_pack", "own_pack.nets"):
        sys.modules.pop(name, None)
    extension.describe_version.cache_clear()
    extension.imported_source.cache_clear()


def versions(targets: tuple[str, ...]) -> dict[str, str]:
    forget()
    return {target: extension.describe_version("models", target) for target in targets}


def sha256(name: str, text: str) -> str:
    return "sha256:" + hashlib.sha256(f"{name}\0{text}\0".encode()).hexdigest()


def test_recorded_identities_of_functions_and_classes_stay(zoo: Path) -> None:
    plain = tuple(target for target in PLAIN if target != "own_zoo:partial")
    assert set(versions(plain).values()) == {sha256("own_zoo.py", ZOO)}
    assert set(versions(REEXPORTED).values()) == {sha256("own_parts.py", PARTS)}
    (zoo / "own_fixed.py").write_text("def net(*, classes: int): ...\n")
    fixed = "sha256:ed49a305817a8065b1272141b55e539f1b2cdfa23075cee7cabb4168a63a38cf"
    assert extension.describe_version("models", "own_fixed:net") == fixed


def test_recorded_identities_of_packages_stay(zoo: Path) -> None:
    inside = "def net(*, classes: int): ...\n"
    outside = "from own_pack.nets import net\ndef own(*, classes: int): ...\n"
    (zoo / "own_pack").mkdir()
    (zoo / "own_pack" / "nets.py").write_text(inside)
    (zoo / "own_pack" / "__init__.py").write_text(outside)
    assert extension.describe_version("models", "own_pack:net") == sha256("nets.py", inside)
    both = hashlib.sha256(f"__init__.py\0{outside}\0nets.py\0{inside}\0".encode()).hexdigest()
    assert extension.describe_version("models", "own_pack:own") == f"sha256:{both}"


@pytest.mark.parametrize("changed", ["own_zoo.py", "own_parts.py"])
def test_a_change_of_the_named_module_or_of_the_factorys_own_is_noticed(zoo: Path, changed: str) -> None:
    before = versions(PLAIN + SHARED + REEXPORTED)
    with (zoo / changed).open("a") as file:
        file.write("# changed\n")
    after = versions(PLAIN + SHARED + REEXPORTED)
    noticed = {target for target in before if before[target] != after[target]}
    assert noticed == {*SHARED, *(PLAIN if changed == "own_zoo.py" else REEXPORTED)}


def test_pythons_own_modules_are_no_part_of_it(zoo: Path) -> None:
    assert versions(("own_zoo:partial",)) == {"own_zoo:partial": sha256("own_zoo.py", ZOO)}


def test_a_module_without_a_source_needs_a_version(zoo: Path) -> None:
    with pytest.raises(RecipeError, match=r"its source is not there to be hashed; give Extension\(version=…\)$"):
        extension.describe_version("models", "math:sqrt")

"""A public name stands for one thing in the whole package."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import cifar_lab

PACKAGE = Path(__file__).parents[2] / "cifar_lab"
OF_ONE_MEANING = {
    "require_setting",  # what a command checks, and what the Python API does
    "mirrors", "find_or_download", "on_disk",  # of each published data set
}  # fmt: skip
"""Functions that stand in several modules, and mean the same there; so do those of the public API."""


def _public(kind: type[ast.AST]) -> list[str]:
    trees = [ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))]
    nodes = [node for tree in trees for node in tree.body if isinstance(node, kind)]
    return [node.name for node in nodes if not node.name.startswith("_")]  # type: ignore[attr-defined]


def test_no_public_class_has_the_name_of_another() -> None:
    assert [name for name, count in Counter(_public(ast.ClassDef)).items() if count > 1] == []


def test_no_public_function_has_the_name_of_one_that_does_something_else() -> None:
    twice = {name for name, count in Counter(_public(ast.FunctionDef)).items() if count > 1}
    assert twice - OF_ONE_MEANING - set(cifar_lab.__all__) == set()
    assert twice >= OF_ONE_MEANING, "a name that no longer stands twice"


def test_the_ways_through_the_code_name_modules_that_are_there_and_twelve_at_most() -> None:
    text = (PACKAGE.parent / "docs" / "development.md").read_text()
    rows = [line for line in text.split("## Five ways")[1].split("\n## ")[0].splitlines() if ".py`" in line]
    ways = [re.findall(r"`([\w/]+\.py)`", row) for row in rows]
    assert len(ways) == 5
    for way in ways:
        assert [module for module in way if not (PACKAGE / module).is_file()] == []
        assert len(way) <= 12

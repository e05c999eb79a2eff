"""Contract of the prose: docstrings start as a sentence or a noun phrase, and the errors they name are raised."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("cifar_lab", "ablations", "benchmarks", "tests")
FRAGMENT_WORDS = frozenset(
    {
        *("what", "whether", "how", "where", "who", "whom", "whose", "which", "why", "when", "if", "that", "so"),
        *("of", "by", "from", "as", "in", "on", "for", "each", "those", "its", "it"),
    }
)
"""First words, in lower case, that begin a fragment instead of an imperative sentence or a noun phrase."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def fragments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and first sentence of every docstring in `source` that begins with a fragment word."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Documented):
            continue
        doc = ast.get_docstring(node)
        if doc is None:
            continue
        first = re.match(r"[A-Za-z]+", doc)
        if first is not None and first[0].lower() in FRAGMENT_WORDS:
            yield node.body[0].lineno, re.split(r"(?<=[.:;])\s", doc, maxsplit=1)[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_begin_with_an_imperative_or_a_noun_phrase(folder: str) -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: {sentence}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, sentence in fragments(path.read_text(encoding="utf-8"))
    ]
    assert not offenders, "docstrings that begin with a fragment word:\n" + "\n".join(offenders)


@pytest.mark.parametrize("docstring", ["What is left.", "of a drawing", "If it is there.", "Whether.", "For it: all."])
def test_a_fragment_is_found_in_every_documented_node(docstring: str) -> None:
    text = f'"""{docstring}"""\n'
    source = text + f"class A:\n    {text}\n    def f(self):\n        {text}\nasync def g():\n    {text}"
    assert sorted(line for line, _ in fragments(source)) == [1, 3, 6, 9]


@pytest.mark.parametrize("docstring", ["Return the mean.", "Iterate.", "Form of a record.", "Itself.", "95 % of all."])
def test_sentences_and_noun_phrases_pass(docstring: str) -> None:
    assert not list(fragments(f'def f():\n    """{docstring}"""\n'))


SECTION = re.compile(r"^Raises:\n((?:    .*(?:\n|\Z)|\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^    ([A-Za-z][\w.]*(?:, [A-Za-z][\w.]*)*)(?=[:,;.]| )", re.MULTILINE)
NOT_SAID = frozenset({"train_as_task", "find_broken", "records"})
"""Functions that turn the error that they raise into an answer, or that subclasses define."""


def documented_errors(docstring: str) -> set[str]:
    """Return the last part of each name that a docstring's section `Raises:` begins a line with."""
    section = SECTION.search(docstring)
    entries = ENTRY.findall(section[1]) if section else []
    return {name.rpartition(".")[2] for entry in entries for name in entry.split(", ")}


def raised_errors(function: ast.FunctionDef) -> set[str]:
    """Return the classes that the body of `function` names in `raise`, those of functions in it left out."""
    inner = {id(part) for node in ast.walk(function) if node is not function and isinstance(node, ast.FunctionDef)
             for part in ast.walk(node)}  # fmt: skip
    raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and id(node) not in inner]
    classes = [each.func if isinstance(each, ast.Call) else each for each in raised]
    names = [each.id if isinstance(each, ast.Name) else getattr(each, "attr", "") for each in classes]
    return {name for name in names if name[:1].isupper()}


@cache
def trees(folder: str) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / folder).rglob("*.py"))}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield the functions of a module and the methods of its classes, without those in functions."""
    for node in [tree, *(each for each in tree.body if isinstance(each, ast.ClassDef))]:
        yield from (each for each in node.body if isinstance(each, ast.FunctionDef))


def test_errors_that_docstrings_name_exist() -> None:
    package = trees("cifar_lab")
    nodes = [node for tree in package.values() for node in ast.walk(tree)]
    known = {node.name for node in nodes if isinstance(node, ast.ClassDef)} | set(dir(builtins))
    imported = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    known |= {alias.name for node in imported for alias in node.names} | {"BadParameter"}
    wrong = [
        f"{path.relative_to(ROOT)}: {function.name}: {name}"
        for path, tree in package.items()
        for function in functions(tree)
        for name in documented_errors(ast.get_docstring(function) or "") - known
    ]
    assert not wrong, "errors that do not exist:\n" + "\n".join(wrong)


def test_public_functions_name_the_errors_that_they_raise() -> None:
    """Commands are left out: their docstrings are the help that users read."""
    missing = [
        f"{path.relative_to(ROOT)}: {function.name}: {name}"
        for path, tree in trees("cifar_lab").items()
        for function in functions(tree)
        if path.parent.name != "cli"
        if not function.name.startswith("_") and function.name not in NOT_SAID and not function.decorator_list
        for docstring in [ast.get_docstring(function)]
        if docstring is not None
        for name in raised_errors(function) - set(re.findall(r"\w+", docstring))
    ]
    assert not missing, "errors that a docstring does not name:\n" + "\n".join(missing)


def test_errors_are_read_from_docstrings_and_bodies() -> None:
    source = '''
def f():
    """Read it.

    Raises:
        KeyError, a.B: it is not there.
            Further words: none.
        C: always.
    """
    def g():
        raise TypeError
    raise KeyError("x") from None
    raise a.B
    raise error
'''
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert documented_errors(ast.get_docstring(function) or "") == {"KeyError", "B", "C"}
    assert raised_errors(function) == {"KeyError", "B"}

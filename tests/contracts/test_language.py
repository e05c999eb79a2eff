"""Contract of the prose: docstrings start as a sentence or a noun phrase, not as a fragment."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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

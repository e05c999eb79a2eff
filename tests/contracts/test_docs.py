"""Commands in README and docs/ exist, and so do their options; pages that are linked exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException

from cifar_lab.cli.app import COMMANDS, app

HOUSE = Path(__file__).parents[2]
PAGES = [HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", HOUSE / "docker/README.md", *sorted(HOUSE.glob("docs/*.md")),
         *sorted(HOUSE.glob("docs/results/*.md"))]  # fmt: skip
HISTORY = {"log.md"}
"""Pages about the past, whose commands may be gone."""
BLOCK, SPAN = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL), re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
PROGRAM = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*cifar-lab (.*)$")


def _commands(text: str) -> Iterator[str]:
    """Command lines of a page without the program's name: lines of blocks, and code spans."""
    blocks = BLOCK.findall(text)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = SPAN.findall(BLOCK.sub("", text))
    for line in [*lines, *spans]:
        if match := PROGRAM.match(line.strip()):
            yield re.split(r"\s#|\s&&|\s\||;|\s>|\s2>", match[1])[0].strip()


CASES = [
    pytest.param(page, line, id=f"{page.name}: {line}")
    for page in PAGES
    if page.name not in HISTORY
    for line in dict.fromkeys(_commands(page.read_text()))
]


@pytest.mark.parametrize(("page", "line"), CASES)
def test_a_command_of_the_docs_exists_with_its_options(page: Path, line: str) -> None:
    words = shlex.split(line)
    group = typer.main.get_command(app)
    if not words or words[0].startswith(("-", "…", "[")) or words[0].isupper():
        return
    assert words[0] in COMMANDS, f"{page.name}: no command {words[0]}"
    context = typer.Context(group)
    command = group.get_command(context, words[0])  # type: ignore[attr-defined]
    context = typer.Context(command, info_name=words[0])
    try:
        command.make_parser(context).parse_args(words[1:])
    except TyperException as error:
        if "requires an argument" not in str(error):  # in a sentence an option is named without one
            pytest.fail(f"{page.name}: cifar-lab {line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page: Path) -> None:
    missing = [link for link in LINK.findall(BLOCK.sub("", page.read_text())) if not (page.parent / link).exists()]
    assert not missing

"""Commands, scripts, targets and files that README and docs/ name are there, and so are the options of commands.

`tests/integration/test_documented_commands.py` executes the commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from made.documented_commands import BLOCK, HOUSE, PAGES, PRESENT, SPAN
from made.documented_commands import COMMANDS as DOCUMENTED
from typer.exceptions import TyperException

from cifar_lab.cli.app import COMMANDS, app

PUBLISHED = sorted({*PAGES, *(path for path in (HOUSE / "docs").rglob("*.md") if "_build" not in path.parts)})
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
CASES = [pytest.param(each.page, each.line, id=f"{each.page.name}: {each.line}") for each in DOCUMENTED]


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


@pytest.mark.parametrize("page", PUBLISHED, ids=lambda page: page.name)
def test_linked_files_exist_and_nothing_is_left_to_fill_in(page: Path) -> None:
    text = page.read_text()
    assert not [link for link in LINK.findall(BLOCK.sub("", text)) if not (page.parent / link).exists()]
    assert not re.search(r"\b[A-Z]+_(OUTPUT|TABLE|SIZE)\b", text)


@pytest.mark.parametrize("page", PUBLISHED, ids=lambda page: page.name)
def test_what_stands_in_a_sentence_is_a_command(page: Path) -> None:
    assert set(re.findall(r"`(?:[^`\n]*/)?cifar-lab ([a-z][a-z-]+)", page.read_text())) <= set(COMMANDS)


def _lines(page: Path, start: str) -> Iterator[str]:
    """Lines of blocks and code spans of a page that begin with a word."""
    text = page.read_text()
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *SPAN.findall(BLOCK.sub("", text))]:
        if line.strip().startswith(start):
            yield re.split(r"\s#|\s&&|\s\||;|\s>", line.strip())[0].strip()


SCRIPTS = sorted({line for page in PRESENT for line in _lines(page, "python ") if " -m " not in line})
TARGETS = sorted({line for page in PRESENT for line in _lines(page, "make ")})


@pytest.mark.parametrize("line", SCRIPTS)
def test_a_script_of_the_docs_exists_with_its_options(line: str) -> None:
    path, *words = shlex.split(line)[1:]
    source = (HOUSE / path).read_text()
    if path == "benchmarks/gpu.py":
        source += "".join(each.read_text() for each in (HOUSE / "benchmarks/on_gpu").glob("*.py"))
    assert not [word for word in words if word.startswith("--") and f'"{word}"' not in source]


@pytest.mark.parametrize("line", TARGETS)
def test_a_target_of_the_docs_is_in_the_makefile(line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{re.escape(target)}\b.*:", (HOUSE / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)
def test_source_files_of_the_docs_exist(page: Path) -> None:
    named = set(re.findall(r"\b(?:tests|benchmarks|cifar_lab)/[\w/]+\.py\b", page.read_text()))
    assert not sorted(path for path in named if not (HOUSE / path).exists())

"""README and docs: no placeholders, no broken links, no commands that do not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cifar_lab.cli.app import COMMANDS

HOUSE = Path(__file__).parents[2]
PAGES = [HOUSE / "README.md", *sorted((HOUSE / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_nothing_is_left_to_fill_in(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"\b[A-Z]+_(OUTPUT|TABLE|SIZE)\b", text)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_commands(page: Path) -> None:
    named = set(re.findall(r"`(?:[^`\n]*/)?cifar-lab ([a-z][a-z-]+)", page.read_text()))
    assert named <= set(COMMANDS)

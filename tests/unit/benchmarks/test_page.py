"""The page says what was measured and what was missed, and its numbers are those of the file beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made.benchmarks import LAB, PLAIN, entry, goal
from side_by_side.page import NUMBERS, PAGE, page, read, write
from side_by_side.results import Absent, Entry, Spread

REACHED = goal(what="another", measured=Spread((3.0, 3.1, 3.2)))
UNKNOWN = goal(what="a third", measured=Absent("not installed"))


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_missed_goal_is_said_at_the_top_and_beside_its_number() -> None:
    text = page([entry(goal(), REACHED, UNKNOWN)])
    assert "**1 of 3 goals reached, 1 missed, 1 not measured.**" in text
    top = text[: text.index("## Training")]
    line = "- Training: speed over the plain loop's is 2.76 × where ≥ 2.80 × was wanted; missed by 0.0400 × (1.43 %)"
    assert line in top
    assert "- Training: a third (≥ 2.80 × wanted): not installed" in top
    assert ["speed over the plain loop's", "≥ 2.80 ×", "2.76 ×", "2.52", "2.93", "**missed by 0.0400 × (1.43 %)**"] in (
        rows(text)
    )


def test_a_missed_goal_says_why_and_one_that_is_reached_does_not() -> None:
    reached = goal(what="another", measured=Spread((3.0, 3.1, 3.2)), why="a reason that nobody asked for")
    text = page([entry(goal(why="the ceiling is 2.80 times the plain loop"), reached)])
    assert "; missed by 0.0400 × (1.43 %): the ceiling is 2.80 times the plain loop\n" in text
    assert "nobody asked" not in text


def test_where_all_goals_are_reached_none_is_listed() -> None:
    text = page([entry(REACHED)])
    assert "**1 of 1 goals reached, 0 missed, 0 not measured.**" in text
    assert "Missed:" not in text
    assert "Not measured:" not in text


def test_a_section_that_was_never_measured_is_named_at_the_top(tmp_path: Path) -> None:
    write(tmp_path, [entry(REACHED)], ["training", "tracking", "memory"])
    text = (tmp_path / PAGE).read_text()
    assert "**Sections that were not measured, with all their goals: tracking, memory.**" in text
    write(tmp_path, [entry(REACHED)], ["training"])
    assert "not measured, with" not in (tmp_path / PAGE).read_text()


def test_a_table_has_medians_extremes_and_ratios_and_says_what_is_not_there() -> None:
    found = rows(page([entry()]))
    assert ["width 16", "images/s", "lowest", "highest", "× plain loop"] in found
    assert ["plain loop", "410", "380", "500", "1.00"] in found
    assert ["Lightning", "not measured: not installed", "", "", ""] in found
    assert ["cifar-lab", "1,200", "1,050", "1,260", "2.76"] in found


def test_a_section_names_its_command_hardware_versions_and_date() -> None:
    text = page([entry()])
    for words in ("python benchmarks/bench.py --only training", "AMD EPYC", "torch 2.15.0", "2026-11-24", "3 rounds"):
        assert words in text, words


@pytest.mark.parametrize(
    ("circumstances", "words"),
    [
        ({"is_quick": True}, "the numbers mean nothing"),
        ({"busy": 1.7}, "Something else was running"),
        ({"cores": 8}, "Measured on other ones: other"),
        ({"has_bf16": False}, "Measured on other ones: other"),
    ],
)
def test_what_spoils_the_numbers_is_said_first(circumstances: dict[str, Any], words: str) -> None:
    assert words not in page([entry()])
    text = page([entry(), entry(name="other", circumstances=circumstances)])
    assert words in text[: text.index("## ")]


def test_the_file_has_what_the_page_is_made_of(tmp_path: Path) -> None:
    write(tmp_path, [entry(goal(), REACHED, UNKNOWN)])
    (tree,) = json.loads((tmp_path / NUMBERS).read_text())
    measured = tree["section"]["tables"][0]["rows"]
    assert measured["cifar-lab"]["values"] == list(LAB.values)
    assert measured["plain loop"]["values"] == list(PLAIN.values)
    assert measured["Lightning"] == {"reason": "not installed"}


def test_the_page_in_docs_is_made_from_its_file() -> None:
    docs = Path(__file__).parents[3] / "docs"
    assert page(read(docs)) == (docs / PAGE).read_text()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    entries = (entry(goal(), UNKNOWN), entry(REACHED, name="input", title="Input"))
    write(tmp_path, entries)
    assert read(tmp_path) == entries
    assert read(tmp_path / "nothing") == ()


def test_a_bar_in_a_name_breaks_no_table() -> None:
    one: Entry = entry(goal(what="a|b"))
    assert any(cells[0] == "a/b" for cells in rows(page([one])))


def test_sections_of_different_machines_are_told_apart() -> None:
    epyc = entry(circumstances={"hardware": "AMD EPYC"})
    xeon = entry(circumstances={"hardware": "Intel Xeon"}, name="memory")
    assert "of different machines" not in page([epyc, epyc])
    assert "training: AMD EPYC; memory: Intel Xeon" in page([epyc, xeon])

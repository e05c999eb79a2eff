"""Duration of the instant commands, compared with a minimal command line with typer and rich."""

from __future__ import annotations

import sys

from side_by_side.asked import Asked
from side_by_side.contender import Contender, nothing, program
from side_by_side.goal import Goal
from side_by_side.section import Row, Section, Table
from side_by_side.spread import by_round, ratio
from side_by_side.turns import take_turns

NAME = "commands"
ROUNDS = 4
"""Factor of the number of rounds: the commands are so short that noise is large."""
WANTED = 1.5
CONSOLE_SCRIPT = "import sys; from cifar_lab.cli import main; sys.exit(main())"
"""Code of an entry point as pip creates it."""
PAIRS = {"--help": "an empty program, --help", "list": "an empty program, an empty table"}
TOLD = """Milliseconds from the start of a fresh process to its end, all files in the page cache. The empty program
has two commands and uses typer and rich as they come (`benchmarks/programs/empty_typer.py`): its `--help`, and a
command that prints a table without rows. The lab's own help is plain, and loads no rich: much of what it saves is
that."""


def measure(asked: Asked, rounds: int) -> Section:
    folder = asked.scratch / "commands"
    contenders = []
    for words, empty in PAIRS.items():
        least = program("empty_typer", "--help" if words == "--help" else "table")
        lab = (sys.executable, "-c", CONSOLE_SCRIPT, words)
        contenders.append(Contender(name=empty, line=least, folder=folder, read=nothing))
        contenders.append(Contender(name=f"cifar-lab {words}", line=lab, folder=folder, read=nothing))
    take_turns(contenders, 1, lambda _: None)  # not counted, so that nobody is the first to read its files
    found = take_turns(contenders, rounds, asked.say)
    seconds = {each.name: found.of(each.name, "wall_seconds") for each in contenders}
    tables = tuple(
        Table(title=words, unit="ms", against=empty,
              rows=tuple(Row(name=name, measured=by_round(lambda value: 1000 * value, seconds[name]))
                         for name in (empty, f"cifar-lab {words}")))
        for words, empty in PAIRS.items()
    )  # fmt: skip
    goals = tuple(
        Goal(what=f"cifar-lab {words}, over an empty program", at="most", limit=WANTED, unit="×",
             measured=ratio(seconds[f"cifar-lab {words}"], seconds[empty]))
        for words, empty in PAIRS.items()
    )  # fmt: skip
    return Section(name=NAME, title="Commands that are instant", told=TOLD, tables=tables, goals=goals)

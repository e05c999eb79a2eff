"""Measure the lab and its peers, and write docs/benchmarks.md and docs/benchmarks.json.

    make bench                                                 # everything; best on a machine that does nothing else
    python benchmarks/bench.py --only training,evaluation      # these sections; the others stay as they were
    python benchmarks/bench.py --quick --out /tmp/bench        # one round of a few steps: to see that it works
    python benchmarks/bench.py --data cifar10-jpeg.zip         # real images in place of synthetic ones

The files are written anew after each section. Exit code 1: something could not be measured. (No file here may have the
name of a module of Python or of a library, as this folder comes first in the search path.)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from sections import augmenting, tracking, training, whole_cell
from side_by_side import machine, page
from side_by_side.contender import Asked, say
from side_by_side.results import Absent, Entry, Section

DOCS = Path(__file__).resolve().parents[1] / "docs"
SECTIONS = {
    "training": training.measure, "cell": whole_cell.measure, "tracking": tracking.measure,
    "evaluation": training.measure_evaluation, "augmentation": augmenting.measure,
}  # fmt: skip
ROUNDS = 5


def main(words: Sequence[str]) -> int:
    typed = _parser().parse_args(words)
    names = list(SECTIONS) if typed.only is None else [name.strip() for name in typed.only.split(",")]
    if unknown := [name for name in names if name not in SECTIONS]:
        say(f"bench.py: no section named '{unknown[0]}'; there are {', '.join(SECTIONS)}")
        return 2
    whole = True
    for name in names:
        entry = _measure(name, typed)
        whole = whole and _is_whole(entry.section)
        page.write(typed.out, merge([*page.read(typed.out), entry]), list(SECTIONS))
    say(f"{typed.out / page.PAGE}, {typed.out / page.NUMBERS}")
    return 0 if whole else 1


def _measure(name: str, typed: argparse.Namespace) -> Entry:
    """Measure one section in a temporary folder."""
    busy, began, rounds = machine.busy_cores(), time.monotonic(), 1 if typed.quick else typed.rounds
    data = typed.data if typed.data in {"synthetic", "cifar10"} else str(Path(typed.data).resolve())
    with tempfile.TemporaryDirectory(prefix="cifar-lab-bench-") as scratch:
        asked = Asked(is_quick=typed.quick, data=data, scratch=Path(scratch))
        say(f"{name}: {rounds} rounds")
        section = SECTIONS[name](asked, rounds)
        minutes = (time.monotonic() - began) / 60
        more = ["--quick"] * typed.quick + [
            f"--{key}={vars(typed)[key]}"
            for key in ("rounds", "data")
            if vars(typed)[key] != _parser().get_default(key)
        ]
        made = machine.made(name, more, asked, rounds=rounds, busy=busy, minutes=minutes)
    return Entry(made=made, section=section)


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """Return the latest entry of each section; those that are no longer measured come last."""
    latest = {entry.section.name: entry for entry in entries}
    order = [name for name in SECTIONS if name in latest] + [name for name in latest if name not in SECTIONS]
    return [latest[name] for name in order]


def _is_whole(section: Section) -> bool:
    """Tell whether everything was measured, apart from contenders that are not installed."""
    found = [found for table in section.tables for found in table.rows.values()]
    return not any(isinstance(one, Absent) and one.reason != "not installed" for one in found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME,…", help=f"of the sections {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="one round, a few steps: the numbers mean nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="in which all contenders take their turn")
    parser.add_argument("--data", default="synthetic", help="synthetic, or a folder or zip of images")
    parser.add_argument("--out", type=Path, default=DOCS, help="the folder of the two files")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

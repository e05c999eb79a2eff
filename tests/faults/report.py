"""Write `docs/reliability.md` from the counts in `docs/reliability.jsonl`: `python -m faults.report`.

The page shows the latest entry of each row. No figure is written by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from faults.record import command
from faults.table.rows import MEANINGS, ROWS, Row

ROOT = Path(__file__).parents[2]
COUNTS, PAGE = ROOT / "docs" / "reliability.jsonl", ROOT / "docs" / "reliability.md"
HEAD = """# Reliability: faults that were caused for real

`make test-faults` causes every fault of this table for real (processes are killed, servers stopped, disks filled, files
damaged), counts, and writes this page from [reliability.jsonl](reliability.jsonl), which holds every run. A try is lost
if anything that must hold did not. Random moments, places and sizes come from fixed seeds; what the machine does at
such a moment does not. The command beside a row causes that fault alone; `FAULTS=quick` makes few tries,
`FAULTS=kill_worker=10` another number of them."""
SHOWN = 3
"""Most lost tries of a row that the page describes."""
Entry = Mapping[str, Any]


def read(path: Path) -> dict[str, Entry]:
    """Return the latest entry of each row; an empty mapping where no run was recorded."""
    if not path.exists():
        return {}
    entries = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {entry["row"]: entry for entry in entries}


def page(entries: Mapping[str, Entry], rows: Sequence[Row] = ROWS) -> str:
    """Return the page in Markdown."""
    meanings = "\n".join(f"- *{words}*: {meaning}." for words, meaning in MEANINGS.items())
    blocks = [HEAD, meanings, _summary(entries, rows)]
    for section in dict.fromkeys(row.section for row in rows):
        chosen = [row for row in rows if row.section == section]
        blocks += [f"## {section}", "\n".join(_table(chosen, entries)), *_losses(chosen, entries)]
    return "\n\n".join([*blocks, "## Runs", "\n".join(_runs(entries))]) + "\n"


def _summary(entries: Mapping[str, Entry], rows: Sequence[Row]) -> str:
    there = [entries[row.name] for row in rows if row.name in entries and not entries[row.name]["skipped"]]
    tried, lost = sum(entry["tried"] for entry in there), sum(entry["tried"] - entry["held"] for entry in there)
    broken = [entry["row"] for entry in there if entry["broke_off"]]
    words = [f"**{len(there)} of {len(rows)} rows tried: {tried:,} tries, {lost:,} lost.**"]
    if broken:
        words.append(f"**Broke off before all tries were made: {', '.join(broken)}.**")
    if quick := [entry["row"] for entry in there if "full" not in entry["form"].split(",")]:
        words.append(f"Not in the full form: {', '.join(quick)}.")
    if absent := [row.name for row in rows if row.name not in entries]:
        words.append(f"Never tried: {', '.join(absent)}.")
    return "\n".join(words)


def _table(rows: Sequence[Row], entries: Mapping[str, Entry]) -> Iterator[str]:
    yield "| fault | what was done, and what must hold | tries | lost | command |"
    yield "|---|---|---:|---:|---|"
    for row in rows:
        entry = entries.get(row.name)
        done, tried, lost = row.done, "–", "–"
        if entry is not None and entry["skipped"]:
            done += f". Skipped: {entry['skipped']}"
        elif entry is not None:
            tried, lost = f"{entry['tried']:,}", f"{entry['tried'] - entry['held']:,}"
            lost = f"**{lost}**" if lost != "0" else lost
            notes = "; ".join(f"{name}: {value}" for name, value in entry["notes"].items())
            done += f". {notes[:1].upper()}{notes[1:]}" if notes else ""
            tried += " (broke off)" if entry["broke_off"] else ""
        cells = (row.fault, done, tried, lost, f"`{command(row.name)}`")
        yield "| " + " | ".join(_cell(text) for text in cells) + " |"


def _losses(rows: Sequence[Row], entries: Mapping[str, Entry]) -> Iterator[str]:
    """Yield a list of what was lost in a section, if anything was."""
    lines = []
    for row in rows:
        lost = entries.get(row.name, {}).get("lost", [])
        lines += [f"- {row.name}: {_cell(line)[:300]}" for line in lost[:SHOWN]]
        more = entries[row.name]["tried"] - entries[row.name]["held"] - SHOWN if lost else 0
        lines += [f"- {row.name}: {more} more"] if more > 0 else []
    if lines:
        yield "Lost:\n\n" + "\n".join(lines)


def _runs(entries: Mapping[str, Entry]) -> Iterator[str]:
    """Yield a line for each commit and machine that rows come from, with the seconds that they took."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries.values():
        machine = entry["machine"]
        words = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['platform']}"
        commit = (entry["commit"] or "no commit")[:12] + (" with changes" if entry["dirty"] else "")
        groups.setdefault((entry["date"][:10], commit, words), []).append(entry)
    for (date, commit, words), members in sorted(groups.items()):
        minutes = sum(member["seconds"] for member in members) / 60
        names = ", ".join(member["row"] for member in members)
        yield f"- {date}, commit {commit}, {words}: {len(members)} rows in {minutes:.1f} min ({names})"
    if not entries:
        yield "- none"


def _cell(text: str) -> str:
    """Return text that stays in its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(read(COUNTS)))
    print(f"{PAGE.relative_to(ROOT)} written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Judge recorded studies with both methods of intervals, side by side: how many differences does each decide?

    python benchmarks/both_designs.py docs/results/study.zip

A study keeps the method that it began with; this asks what the other one would have said, and changes no record.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from markdown_table import table

from cifar_lab.results import compare, contrasts
from cifar_lab.results.comparison import ComparisonRow
from cifar_lab.store.invocation import MODERATED, STUDENT
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.packed_study import study_folder
from cifar_lab.store.selection import select

HEADING = ("study", "variant", "n", "Δ", "Student", "verdict", "moderated", "verdict", "width")
DECIDED = {"better", "worse", "equivalent"}


def pairs_of_rows(runs: Path) -> Iterator[tuple[str, ComparisonRow, ComparisonRow]]:
    """Yield each compared row of every setting in `runs`, with Student's intervals and with moderated ones."""
    seen = set[object]()
    for entry in sorted(read_index(runs).invocations, key=lambda entry: entry.id, reverse=True):
        if entry.key in seen:
            continue
        seen.add(entry.key)
        setting, tables = select(runs, entry.ablation, invocation=entry.id), []
        for design in (STUDENT, MODERATED):
            changed = {"attribute": "design_of", "return_value": design}
            with mock.patch.object(contrasts, **changed), mock.patch.object(compare, **changed):
                tables.append(compare.tabulate(setting, runs))
        for old, new in zip(tables[0].rows, tables[1].rows, strict=True):
            if old.interval is not None and new.interval is not None:
                yield f"{entry.ablation}, {entry.scale}, {tables[0].data}", old, new


def row(study: str, old: ComparisonRow, new: ComparisonRow) -> list[object]:
    """Return a row of the table: verdicts and intervals of both methods, and the ratio of their widths."""
    (low, high), (least, most) = old.interval, new.interval
    spans = (f"[{100 * a:+.2f}, {100 * b:+.2f}]" for a, b in (old.interval, new.interval))
    difference, ratio = f"{100 * old.difference:+.2f}", f"{(most - least) / (high - low):.2f}"
    return [study, old.variant, old.pairs, difference, next(spans), old.verdict, next(spans), new.verdict, ratio]


if __name__ == "__main__":
    rows = list(pairs_of_rows(study_folder(Path(sys.argv[1]))))
    print("\n".join(table(HEADING, (row(*each) for each in rows), left=2)))
    counts = [sum(each[i].verdict in DECIDED for each in rows) for i in (1, 2)]
    print(f"\n{len(rows)} differences; decided: {counts[0]} with Student's intervals, {counts[1]} with moderated ones")

"""Judge recorded studies with both methods of intervals, side by side: how many differences does each decide?

    python benchmarks/both_designs.py docs/results/study.zip

A study keeps the method that it began with; this asks what the other one would have said, and changes no record.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from cifar_lab.results import compare, contrasts
from cifar_lab.results.comparison import Comparison, ComparisonRow
from cifar_lab.store.invocation import MODERATED, STUDENT
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.packed_study import study_folder
from cifar_lab.store.selection import select

DECIDED = {"better", "worse", "equivalent"}


def both(runs: Path, invocation: str, ablation: str) -> tuple[Comparison, Comparison]:
    """Return the comparison of a setting with Student's intervals, and with moderated ones."""
    setting = select(runs, ablation, invocation=invocation)
    made = []
    for design in (STUDENT, MODERATED):
        with (
            mock.patch.object(contrasts, "design_of", return_value=design),
            mock.patch.object(compare, "design_of", return_value=design),
        ):
            made.append(compare.tabulate(setting, runs))
    return made[0], made[1]


def pairs_of_rows(runs: Path) -> Iterator[tuple[str, ComparisonRow, ComparisonRow]]:
    """Yield each compared row of every setting in `runs` under both methods."""
    seen = set[object]()
    for entry in sorted(read_index(runs).invocations, key=lambda entry: entry.id, reverse=True):
        if entry.key in seen:
            continue
        seen.add(entry.key)
        student, moderated = both(runs, entry.id, entry.ablation)
        for old, new in zip(student.rows, moderated.rows, strict=True):
            if old.interval is not None:
                yield f"{entry.ablation}, {entry.scale}, {student.data}", old, new


def table(rows: Sequence[tuple[str, ComparisonRow, ComparisonRow]]) -> Iterator[str]:
    """Yield a table in Markdown, and a line that counts what each method decides."""
    yield "| study | variant | n | Δ | Student | verdict | moderated | verdict | width |"
    yield "|---|---|---:|---:|---|---|---|---|---:|"
    for study, old, new in rows:
        before, after = old.interval, new.interval
        if before is None or after is None or old.difference is None:
            continue
        ratio = (after[1] - after[0]) / (before[1] - before[0])
        spans = [f"[{100 * low:+.2f}, {100 * high:+.2f}]" for low, high in (before, after)]
        yield (
            f"| {study} | {old.variant} | {old.pairs} | {100 * old.difference:+.2f} | {spans[0]} | {old.verdict} "
            f"| {spans[1]} | {new.verdict} | {ratio:.2f} |"
        )
    counts = [sum(row[i].verdict in DECIDED for row in rows) for i in (1, 2)]
    yield f"\n{len(rows)} differences; decided: {counts[0]} with Student's intervals, {counts[1]} with moderated ones"


if __name__ == "__main__":
    print("\n".join(table(list(pairs_of_rows(study_folder(Path(sys.argv[1])))))))

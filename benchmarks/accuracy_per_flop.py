"""Plot and tabulate accuracy against the FLOPs of training: a table in Markdown, and a picture.

    python benchmarks/accuracy_per_flop.py fewer_epochs --runs docs/results/study.zip --draw picture.png

A point is a recipe: its mean test accuracy over seeds, from the finished cells of the named ablations, whatever their
settings, on the images of one source. The work is 6 FLOPs per multiply-accumulate of the forward pass (a
multiplication and an addition, once forward and twice backward) for every training image, twice that with
sharpness-aware minimization; evaluation is excluded.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from pathlib import Path
from statistics import mean
from typing import Any

from markdown_table import table
from matplotlib.figure import Figure

from cifar_lab.errors import UsageError
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.packed_study import study_folder
from cifar_lab.store.record_files import CellFile, ResultFile

FLOPS = 6
"""FLOPs of a training step per multiply-accumulate of the forward pass."""
PFLOP, ANCHORS = 0.36, {"airbench94 with TTA": 90.6, "airbench94": 89.8}
"""Work, and % on the same JPEG copy: Jordan's program (2024, arXiv:2404.00498), ported to bf16 on a CPU, 9.9 epochs of
all 50,000 training images."""
COLOURS = {"efficient": "#4C78A8", "fast": "#E45756"}
OTHERS = ("#54A24B", "#B279A2", "#F58518", "#72B7B2")
SIZES = {"model.width", "train.epochs"}
HEADING = ("recipe", "parameters", "PFLOP", "seeds", "accuracy %", "lowest", "highest", "one view %")
Group = list[tuple[str, CellFile, ResultFile]]
"""Cells of one recipe: variant, description and result."""


@dataclass(frozen=True)
class Point:
    """Trained recipe; accuracies in %, `without_tta` their mean with one view of each image.

    Its `line` in the plot is shared by runs that differ only in width and length.
    """

    line: str
    size: str
    parameters: int
    pflop: float
    accuracies: list[float]
    without_tta: float

    @property
    def name(self) -> str:
        return f"{self.line}, {self.size}"

    @property
    def mean(self) -> float:
        return mean(self.accuracies)

    def row(self) -> list[object]:
        reached = (self.mean, min(self.accuracies), max(self.accuracies), self.without_tta)
        numbers = (f"{value:.2f}" for value in reached)
        return [self.name, f"{self.parameters:,}", f"{self.pflop:.3f}", len(self.accuracies), *numbers]


def points(runs: Path, ablations: Sequence[str]) -> list[Point]:
    """Return the recipes of `ablations` that have a finished cell, the cheapest first.

    Raises:
        UsageError: they were trained on more than one set of images.
    """
    chosen = [each for each in read_index(runs).invocations if each.ablation in ablations]
    variants = {cell.fingerprint: cell.variant for invocation in chosen for cell in invocation.cells}
    groups, sources = defaultdict[str, Group](list), dict[str, str]()
    for fingerprint, variant in variants.items():
        record = CellRecord(runs / fingerprint)
        result, cell = record.result(), record.cell()
        if result is not None and cell is not None and result.is_finished:
            groups[str(cell.recipe.tree)].append((variant, cell, result))
            sources[cell.data.hash] = cell.data.name
    if len(sources) > 1:
        raise UsageError(f"these cells saw different images: {', '.join(sorted(sources.values()))}")
    usual = {group[0][0]: _settings(group) for group in sorted(groups.values(), key=len)}
    return sorted((_point(group, usual[group[0][0]]) for group in groups.values()), key=lambda point: point.pflop)


def _settings(group: Group) -> dict[str, Any]:
    return group[0][1].recipe.resolve().flat()


def _point(group: Group, usual: dict[str, Any]) -> Point:
    (variant, cell, first), metrics = group[0], [each.metrics for *_, each in group]
    assert cell.macs is not None
    assert cell.parameters is not None
    settings = {path: value for path, value in _settings(group).items() if usual[path] != value and path not in SIZES}
    words = [f"{path.rpartition('.')[2]} {_short(value)}" for path, value in settings.items()]
    recipe = cell.recipe.resolve()
    return Point(
        line=", ".join([variant.removesuffix("_third"), *words]),
        size=f"width {recipe.model.width}, {recipe.train.epochs} epochs",
        parameters=cell.parameters,
        pflop=FLOPS * recipe.passes * cell.macs * first.metrics["images_seen"] / 1e15,
        accuracies=[100 * each["test/acc"] for each in metrics],
        without_tta=100 * mean(each.get("test/acc_without_tta", each["test/acc"]) for each in metrics),
    )


def _short(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def lines(found: Sequence[Point]) -> Iterator[str]:
    """Yield lines of a Markdown table, with the anchor in order of its work."""
    anchor = ["airbench94", "", PFLOP, 1, ANCHORS["airbench94 with TTA"], "", "", ANCHORS["airbench94"]]
    rows = [(each.pflop, each.row()) for each in found] + [(PFLOP, anchor)]
    return table(HEADING, (row for _, row in sorted(rows, key=lambda each: each[0])))


def draw(found: Sequence[Point], path: Path) -> None:
    """Draw means, the range over seeds, and a line through recipes that differ only in width or epochs."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot(xlabel="work of the training, PFLOP", ylabel="accuracy on test, %", xscale="log")
    others = cycle(OTHERS)
    for line in sorted({each.line for each in found}):
        own = [each for each in found if each.line == line]
        colour = COLOURS.get(line) or next(others)
        low = [each.mean - min(each.accuracies) for each in own]
        high = [max(each.accuracies) - each.mean for each in own]
        axes.errorbar([each.pflop for each in own], [each.mean for each in own], yerr=[low, high], color=colour,
                      marker="o", capsize=3, label=line, linewidth=1.2)  # fmt: skip
        for each, after in zip_longest(own, own[1:]):
            falls = after is not None and after.mean < each.mean  # the words keep out of the line's way
            axes.annotate(each.size, (each.pflop, each.mean), (6, 5 if falls else -12),
                          textcoords="offset points", fontsize=8, color=colour)  # fmt: skip
    for (name, accuracy), marker in zip(ANCHORS.items(), "*D", strict=True):
        axes.plot(PFLOP, accuracy, color="#666666", marker=marker, linestyle="none", label=name)
    ticks = [0.1, 0.2, 0.4, 0.8]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=150)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablation", nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--draw", type=Path, metavar="PICTURE")
    asked = parser.parse_args(words)
    try:
        found = points(study_folder(asked.runs), asked.ablation)
        if not found:
            raise UsageError(f"{asked.runs}: no finished cell of {', '.join(asked.ablation)}")
    except UsageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(lines(found)))
    if asked.draw is not None:
        draw(found, asked.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

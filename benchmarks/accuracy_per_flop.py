"""Plot and tabulate accuracy against the FLOPs of training: a table in Markdown, and a picture.

    python benchmarks/accuracy_per_flop.py fewer_epochs --runs docs/results/study.zip --draw picture.png

A point is a recipe: its mean test accuracy over seeds, from the finished cells of the named ablations, whatever their
settings, on the images of one source. The work is 6 FLOPs per multiply-accumulate of the forward pass (a
multiplication and an addition, once forward and twice backward) for every training image; evaluation is excluded.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from matplotlib.figure import Figure

from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.packed_study import study_folder
from cifar_lab.store.record_files import CellFile, ResultFile

FLOPS = 6
"""FLOPs of a training step per multiply-accumulate of the forward pass."""
PETA = 1e15
PFLOP, ANCHORS = 0.36, {"airbench94 with TTA": 90.6, "airbench94": 89.8}
"""Work, and % on the same JPEG copy: Jordan's program (2024, arXiv:2404.00498), ported to bf16 on a CPU, 9.9 epochs of
all 50,000 training images."""
COLOURS = {"efficient": "#4C78A8", "fast": "#E45756"}
OTHERS = ("#54A24B", "#B279A2", "#F58518", "#72B7B2")
GREY = "#666666"
SIZES = {"model.width", "train.epochs"}


@dataclass(frozen=True)
class Point:
    """Trained recipe; accuracies in %, by seed."""

    variant: str
    settings: str
    """Differences from the usual settings of the variant, apart from width and epochs; empty if none."""
    width: int
    epochs: int
    parameters: int
    pflop: float
    accuracies: Mapping[int, float]
    without_tta: float
    """Mean accuracy of the same cells with one view of each image."""

    @property
    def line(self) -> str:
        """Name of the line in the plot, shared by runs that differ only in width and length."""
        return ", ".join(filter(None, [self.variant.removesuffix("_third"), self.settings]))

    @property
    def size(self) -> str:
        return f"width {self.width}, {self.epochs} epochs"

    @property
    def name(self) -> str:
        return f"{self.line}, {self.size}"

    @property
    def mean(self) -> float:
        return mean(self.accuracies.values())


class FinishedCell(NamedTuple):
    """Finished cell of an ablation."""

    variant: str
    seed: int
    cell: CellFile
    result: ResultFile


def points(runs: Path, ablations: Sequence[str]) -> list[Point]:
    """Return the recipes of `ablations` that have a finished cell, the cheapest first.

    Raises:
        UsageError: they were trained on more than one set of images.
    """
    cells = {
        cell.fingerprint: (cell.variant, cell.seed)
        for invocation in read_index(runs).invocations
        if invocation.ablation in ablations
        for cell in invocation.cells
    }
    groups: dict[str, list[FinishedCell]] = defaultdict(list)
    sources: dict[str, str] = {}
    for fingerprint, (variant, seed) in cells.items():
        record = CellRecord(runs / fingerprint)
        result = record.result()
        cell = record.cell()
        if result is not None and cell is not None and result.is_finished:
            groups[str(cell.recipe.tree)].append(FinishedCell(variant, seed, cell, result))
            sources[cell.data.hash] = cell.data.name
    if len(sources) > 1:
        raise UsageError(f"these cells saw different images: {', '.join(sorted(sources.values()))}")
    usual: dict[str, Recipe] = {}
    for group in sorted(groups.values(), key=len):
        usual[group[0].variant] = _recipe(group)
    return sorted((_point(group, usual[group[0].variant]) for group in groups.values()), key=lambda point: point.pflop)


def _recipe(group: list[FinishedCell]) -> Recipe:
    return group[0].cell.recipe.resolve()


def _point(group: list[FinishedCell], usual: Recipe) -> Point:
    variant, _, cell, result = group[0]
    before, recipe = usual.flat(), _recipe(group)
    settings = {path: value for path, value in recipe.flat().items() if before[path] != value and path not in SIZES}
    assert cell.macs is not None
    assert cell.parameters is not None
    metrics = {each.seed: each.result.metrics for each in group}
    plain = [each.get("test/acc_without_tta", each["test/acc"]) for each in metrics.values()]
    return Point(
        variant=variant,
        settings=", ".join(f"{path.rpartition('.')[2]} {_short(value)}" for path, value in settings.items()),
        width=recipe.model.width,
        epochs=recipe.train.epochs,
        parameters=cell.parameters,
        pflop=FLOPS * cell.macs * result.metrics["images_seen"] / PETA,
        accuracies={seed: 100 * each["test/acc"] for seed, each in metrics.items()},
        without_tta=100 * mean(plain),
    )


def _short(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def table(found: Sequence[Point]) -> Iterator[str]:
    """Yield lines of a Markdown table, with the anchors in order of their work."""
    yield "| recipe | parameters | PFLOP | seeds | accuracy % | lowest | highest | one view % |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    rows = [(each.pflop, _row(each)) for each in found]
    rows.append(
        (PFLOP, f"| airbench94 | | {PFLOP} | 1 | {ANCHORS['airbench94 with TTA']} | | | {ANCHORS['airbench94']} |")
    )
    yield from (line for _, line in sorted(rows))


def _row(point: Point) -> str:
    reached = point.accuracies.values()
    numbers = [f"{point.parameters:,}", f"{point.pflop:.3f}", str(len(reached))]
    numbers += [f"{value:.2f}" for value in (point.mean, min(reached), max(reached), point.without_tta)]
    return f"| {point.name} | {' | '.join(numbers)} |"


def draw(found: Sequence[Point], path: Path) -> None:
    """Draw means, the range over seeds, and a line through recipes that differ only in width or epochs."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot(xlabel="work of the training, PFLOP", ylabel="accuracy on test, %", xscale="log")
    others = cycle(OTHERS)
    for line in sorted({each.line for each in found}):
        own = [each for each in found if each.line == line]
        colour = COLOURS.get(line) or next(others)
        heights = [each.mean for each in own]
        low = [each.mean - min(each.accuracies.values()) for each in own]
        high = [max(each.accuracies.values()) - each.mean for each in own]
        axes.errorbar([each.pflop for each in own], heights, yerr=[low, high], color=colour, marker="o", capsize=3,
                      label=line, linewidth=1.2)  # fmt: skip
        for each, after in zip_longest(own, own[1:]):
            falls = after is not None and after.mean < each.mean  # the words keep out of the line's way
            axes.annotate(each.size, (each.pflop, each.mean), (6, 5 if falls else -12),
                          textcoords="offset points", fontsize=8, color=colour)  # fmt: skip
    for (name, accuracy), marker in zip(ANCHORS.items(), "*D", strict=True):
        axes.plot(PFLOP, accuracy, color=GREY, marker=marker, linestyle="none", label=name)
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
    except UsageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if not found:
        print(f"{asked.runs}: no finished cell of {', '.join(asked.ablation)}", file=sys.stderr)
        return 2
    print("\n".join(table(found)))
    if asked.draw is not None:
        draw(found, asked.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

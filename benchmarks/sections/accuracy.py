"""Accuracy of the lab's loop and of the plain loop after equal numbers of epochs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from side_by_side.asked import Asked
from side_by_side.contender import Contender, command, program
from side_by_side.goal import Goal
from side_by_side.pictures import Pictures
from side_by_side.section import Row, Section, Table
from side_by_side.spread import Absent, Found, Spread, by_round
from side_by_side.turns import take_turns

from cifar_lab.config import scale
from cifar_lab.config.recipe import EFFICIENT_RESNET
from cifar_lab.results.stats.paired import interval, welch
from sections.lab import only_cell

NAME = "accuracy"
ROUNDS = 1
MOST, EPOCHS = 10_000, 3
"""Maximum number of training images, and number of epochs: all of CIFAR-10 would take hours."""
LEVEL = 0.95
LAB, EXACT, PLAIN = "cifar-lab train", "cifar-lab train, in fp32", "plain loop"
TOLD = """Accuracy on test, looked at once, after equal epochs of equal images in equal steps from equal weights; the
seed of a round is its number. The lab computes in bf16 where the processor has it, the plain loop in fp32; they draw
other crops, flips and orders from one seed (handed the same batches, both end at the same weights in fp64: see
`tests/golden/test_textbook_loop.py`). So the seeds are not paired: equal means that the difference of the means
lies within Welch's 95 % interval of no difference. What is smaller than that half of the interval, so few seeds
cannot show. The lab in fp32 sees the batches that it sees in bf16, seed by seed: that difference is paired, and is
bf16's."""


def measure(asked: Asked, rounds: int) -> Section:
    small, epochs = scale.find_scale("small").apply(EFFICIENT_RESNET), asked.size(EPOCHS, 1)
    pictures, count = Pictures.all_of(asked.data), asked.size(MOST, 300)
    if pictures.train > count:
        pictures = Pictures.some_of(asked.data, count, asked.scratch / "images")
    line = command("train", "--scale", "small", f"train.epochs={epochs}", "--seeds", "{round}", "--device", "cpu",
                   "--data", pictures.source, "--offline", "-y")  # fmt: skip
    ours = {LAB: line, EXACT: (*line, "train.precision=fp32")}
    plain = program("plain_loop", "--width", small.model.width, "--epochs", epochs, "--seed", "{round}",
                    "--data", pictures.source)  # fmt: skip
    found = take_turns(
        [*(Contender(name=name, line=words, folder=asked.scratch / f"ours-{i}", read=only_cell,
                     environment=pictures.environment) for i, (name, words) in enumerate(ours.items())),
         Contender(name=PLAIN, line=plain, folder=asked.scratch / "plain", environment=pictures.environment)],
        rounds, asked.say,
    )  # fmt: skip
    accuracies = {name: found.of(name, "accuracy") for name in (PLAIN, LAB, EXACT)}
    return Section(
        name=NAME,
        title="Accuracy after equal epochs",
        told=f"{TOLD} Here: width {small.model.width}, {epochs} epochs of {pictures.train:,} images.",
        tables=(Table(title="accuracy on test", unit="%",
                      rows=tuple(Row(name=name, measured=value) for name, value in accuracies.items())),),
        goals=(equal(accuracies[LAB], accuracies[PLAIN]),),
        notes=(*_excluded(accuracies[LAB], accuracies[PLAIN]), *_of_precision(accuracies[LAB], accuracies[EXACT])),
        is_timed=False,
    )  # fmt: skip


def _excluded(ours: Found, theirs: Found) -> Iterator[str]:
    """Yield the differences that these seeds exclude, in addition to the goal "equal"."""
    if isinstance(ours, Absent) or isinstance(theirs, Absent):
        return
    if min(len(ours.values), len(theirs.values)) < 2:
        return
    found = welch(np.array(ours.values), np.array(theirs.values), LEVEL)
    if found is not None:
        low, high = found
        means = [float(np.mean(each.values)) for each in (ours, theirs)]
        yield (
            f"the lab's mean, {means[0]:.2f} %, less the plain loop's, {means[1]:.2f} %: {means[0] - means[1]:+.2f} "
            f"points, 95 % interval of Welch [{low:+.2f}, {high:+.2f}] (the table has medians)"
        )


def _of_precision(auto: Found, exact: Found) -> Iterator[str]:
    """Yield the effect of bf16 on the accuracy, over the rounds that have both precisions."""
    apart = by_round(lambda ours, theirs: ours - theirs, auto, exact)
    if isinstance(apart, Absent):
        return
    found = interval(dict(enumerate(apart.values)), level=LEVEL)
    if found is not None:
        low, high = found
        mean, pairs = float(np.mean(apart.values)), len(apart.values)
        yield (
            f"the lab in the precision that it chooses less the lab in fp32: {mean:+.2f} points, 95 % interval of "
            f"Student over {pairs} pairs [{low:+.2f}, {high:+.2f}], which correlate by {_correlation(auto, exact)}"
        )


def _correlation(one: Found, other: Found) -> str:
    """Return the correlation of the pairs: at 1 pairing removes all variance between seeds, at 0 none."""
    assert isinstance(one, Spread)
    assert isinstance(other, Spread)
    return f"{float(np.corrcoef(one.values, other.values)[0, 1]):+.2f}"


def equal(ours: Found, theirs: Found) -> Goal:
    """Return the goal that the means differ by no more than chance, in points: half of Welch's interval."""
    what, limit = "difference of the means, without its sign", 0.0
    measured: Found = Absent("one seed tells nothing of chance")
    if isinstance(ours, Absent) or isinstance(theirs, Absent):
        measured = ours if isinstance(ours, Absent) else theirs
    elif min(len(ours.values), len(theirs.values)) > 1:
        a, b = np.array(ours.values), np.array(theirs.values)
        found = welch(a, b, LEVEL)
        limit = (found[1] - found[0]) / 2 if found is not None else 0.0
        measured = Spread((abs(float(a.mean() - b.mean())),))
    return Goal(what=what, at="most", limit=limit, unit="points", measured=measured)

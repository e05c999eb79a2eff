"""Whether the lab's speed costs accuracy: equal epochs, ours and the plain loop's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from side_by_side.asked import Asked
from side_by_side.contender import Contender, command, program
from side_by_side.goal import Goal
from side_by_side.pictures import Pictures
from side_by_side.section import Row, Section, Table
from side_by_side.spread import Absent, Found, Spread
from side_by_side.turns import take_turns

from cifar_lab import scale
from cifar_lab.recipe import EFFICIENT_RESNET
from cifar_lab.stats.paired import welch
from sections.lab import only_cell

NAME = "accuracy"
ROUNDS = 1
MOST, EPOCHS = 10_000, 3
"""Training images, of more than so many, and how often they are seen: all of CIFAR-10 would take hours."""
LEVEL = 0.95
LAB, PLAIN = "cifar-lab train", "plain loop"
TOLD = """Accuracy on test, looked at once, after equal epochs of equal images in equal steps from equal weights; the
seed of a round is its number. The lab computes in bf16 where the processor has it, the plain loop in fp32; they draw
other crops, flips and orders from one seed (handed the same batches, both end at the same weights in fp64: see
`tests/golden/test_textbook_loop.py`). So the seeds are not paired: equal means that the difference of the means
lies within Welch's 95 % interval of no difference. What is smaller than that half of the interval, so few seeds
cannot show."""


def measure(asked: Asked, rounds: int) -> Section:
    small, epochs = scale.find("small").apply(EFFICIENT_RESNET), asked.size(EPOCHS, 1)
    pictures, count = Pictures.all_of(asked.data), asked.size(MOST, 300)
    if pictures.train > count:
        pictures = Pictures.some_of(asked.data, count, asked.scratch / "images")
    line = command("train", "--scale", "small", f"train.epochs={epochs}", "--seeds", "{round}", "--device", "cpu",
                   "--data", pictures.source, "--offline", "-y")  # fmt: skip
    plain = program("plain_loop", "--width", small.model.width, "--epochs", epochs, "--seed", "{round}",
                    "--data", pictures.source)  # fmt: skip
    found = take_turns(
        [Contender(name=LAB, line=line, folder=asked.scratch / "ours", read=only_cell,
                   environment=pictures.environment),
         Contender(name=PLAIN, line=plain, folder=asked.scratch / "plain", environment=pictures.environment)],
        rounds, asked.say,
    )  # fmt: skip
    accuracies = {name: found.of(name, "accuracy") for name in (PLAIN, LAB)}
    return Section(
        name=NAME,
        title="Accuracy after equal epochs",
        told=f"{TOLD} Here: width {small.model.width}, {epochs} epochs of {pictures.train:,} images.",
        tables=(Table(title="accuracy on test", unit="%",
                      rows=tuple(Row(name=name, measured=value) for name, value in accuracies.items())),),
        goals=(equal(accuracies[LAB], accuracies[PLAIN]),),
        notes=tuple(_excluded(accuracies[LAB], accuracies[PLAIN])),
        is_timed=False,
    )  # fmt: skip


def _excluded(ours: Found, theirs: Found) -> Iterator[str]:
    """What these seeds exclude, which "equal" does not say."""
    if isinstance(ours, Absent) or isinstance(theirs, Absent):
        return
    if min(len(ours.values), len(theirs.values)) < 2:
        return
    interval = welch(np.array(ours.values), np.array(theirs.values), LEVEL)
    if interval is not None:
        low, high = interval
        yield f"the lab's mean less the plain loop's: 95 % interval of Welch [{low:+.2f}, {high:+.2f}] points"


def equal(ours: Found, theirs: Found) -> Goal:
    """That the means differ by no more than chance explains, in points: at most half of Welch's interval."""
    what, limit = "difference of the means, without its sign", 0.0
    measured: Found = Absent("one seed tells nothing of chance")
    if isinstance(ours, Absent) or isinstance(theirs, Absent):
        measured = ours if isinstance(ours, Absent) else theirs
    elif min(len(ours.values), len(theirs.values)) > 1:
        a, b = np.array(ours.values), np.array(theirs.values)
        interval = welch(a, b, LEVEL)
        limit = (interval[1] - interval[0]) / 2 if interval is not None else 0.0
        measured = Spread((abs(float(a.mean() - b.mean())),))
    return Goal(what=what, at="most", limit=limit, unit="points", measured=measured)

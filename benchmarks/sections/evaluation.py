"""Throughput of evaluation, compared with training."""

from __future__ import annotations

from side_by_side.contender import Asked, take_turns, timed_steps
from side_by_side.results import Goal, Section, Table, ratio

from sections.training import WIDTHS

NAME = "evaluation"
TRAIN, LAB, PLAIN = "cifar-lab, training", "cifar-lab, evaluation", "plain loop, evaluation"
TOLD = """Images a second: loss, accuracy and predictions of images that are not augmented, with the first batch not
counted. The plain loop's evaluation takes its images from the PIL DataLoader, whose start counts."""


def measure(asked: Asked, rounds: int) -> Section:
    contenders = []
    for width in WIDTHS:
        count = asked.size((3, 6) if width == 64 else (5, 20), (1, 1))
        images = asked.size(2_000 if width == 64 else 10_000, 150)
        contenders.append(timed_steps(asked, f"{TRAIN}, {width}", "lab_loop", width, count))
        for name, file in ((LAB, "lab_loop"), (PLAIN, "plain_loop")):
            contenders.append(timed_steps(asked, f"{name}, {width}", file, width, count, "--evaluate", images))
    found, tables, goals = take_turns(contenders, rounds), [], []
    for width, words in WIDTHS.items():
        speed = {name: found.of(f"{name}, {width}", "images_per_second") for name in (TRAIN, PLAIN, LAB)}
        tables.append(Table.of(words, "images/s", speed, against=TRAIN))
        goals += [
            Goal(what=f"{words}: evaluation over training", at="least", limit=2.5, unit="×",
                 measured=ratio(speed[LAB], speed[TRAIN])),
            Goal(what=f"{words}: passes over the images", at="most", limit=1.0, unit="passes",
                 measured=found.of(f"{LAB}, {width}", "passes")),
        ]  # fmt: skip
    return Section(name=NAME, title="Evaluation", told=TOLD, tables=tuple(tables), goals=tuple(goals))

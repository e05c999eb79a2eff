"""Throughput of evaluation, compared with training."""

from __future__ import annotations

from side_by_side.asked import Asked
from side_by_side.contender import Contender, program
from side_by_side.goal import Goal
from side_by_side.section import Row, Section, Table
from side_by_side.spread import ratio
from side_by_side.turns import take_turns

from cifar_lab.execution.fork_server import ALLOCATOR
from sections.lab import steps

NAME = "evaluation"
ROUNDS = 1
WANTED = 2.5
WIDTHS = {64: "the writeup's network", 16: "width 16"}
TRAIN, LAB, PLAIN = "cifar-lab, training", "cifar-lab, evaluation", "plain loop, evaluation"
TOLD = """Images a second: loss, accuracy and predictions of images that are not augmented, with the first batch not
counted. The plain loop's evaluation takes its images from the PIL DataLoader, whose start counts."""


def measure(asked: Asked, rounds: int) -> Section:
    contenders = []
    for width in WIDTHS:
        count = asked.size((3, 6) if width == 64 else (5, 20), (1, 1))
        images = asked.size(2_000 if width == 64 else 10_000, 150)
        contenders.append(steps(asked, _name(TRAIN, width), "lab_loop", width, count))
        for name, file in ((LAB, "lab_evaluation"), (PLAIN, "plain_evaluation")):
            line = program(file, "--width", width, "--data", asked.data, "--images", images)
            environment = ALLOCATOR if name == LAB else {}
            contenders.append(Contender(name=_name(name, width), line=line, folder=asked.scratch / "evaluation",
                                        environment=environment))  # fmt: skip
    found = take_turns(contenders, rounds, asked.say)
    tables, goals = [], []
    for width, words in WIDTHS.items():
        speed = {name: found.of(_name(name, width), "images_per_second") for name in (TRAIN, PLAIN, LAB)}
        rows = tuple(Row(name=name, measured=value) for name, value in speed.items())
        tables.append(Table(title=words, unit="images/s", rows=rows, against=TRAIN))
        goals += [
            Goal(what=f"{words}: evaluation over training", at="least", limit=WANTED, unit="×",
                 measured=ratio(speed[LAB], speed[TRAIN])),
            Goal(what=f"{words}: passes over the images", at="most", limit=1.0, unit="passes",
                 measured=found.of(_name(LAB, width), "passes")),
        ]  # fmt: skip
    return Section(name=NAME, title="Evaluation", told=TOLD, tables=tuple(tables), goals=tuple(goals))


def _name(contender: str, width: int) -> str:
    return f"{contender}, {width}"

"""One cell from an empty folder to its table, compared with the plain loop's script."""

from __future__ import annotations

from side_by_side.asked import Asked
from side_by_side.contender import Contender, command, program
from side_by_side.goal import Goal
from side_by_side.pictures import Pictures
from side_by_side.section import Row, Section, Table
from side_by_side.spread import by_round, ratio
from side_by_side.turns import take_turns

from cifar_lab.config import scale
from cifar_lab.config.recipe import EFFICIENT_RESNET
from sections.lab import only_cell

NAME = "cell"
ROUNDS = 1
WANTED = 2.5
PLAIN, LAB = "plain loop's script", "cifar-lab train"


def measure(asked: Asked, rounds: int) -> Section:
    small = scale.find_scale("small").apply(EFFICIENT_RESNET)
    epochs = asked.cell_epochs or asked.size(small.train.epochs, 1)
    pictures = _pictures(asked)
    train = command("train", "--scale", "small", f"train.epochs={epochs}", "--data", pictures.source,
                    "--device", "cpu", "-y")  # fmt: skip
    script = program("plain_loop", "--width", small.model.width, "--epochs", epochs, "--data", pictures.source)
    contenders = [
        Contender(name=LAB, line=train, folder=asked.scratch / "cell", read=only_cell,
                  environment=pictures.environment),
        Contender(name=PLAIN, line=script, folder=asked.scratch / "script", environment=pictures.environment),
    ]  # fmt: skip
    found = take_turns(contenders, rounds, asked.say)
    seconds = {name: found.of(name, "wall_seconds") for name in (PLAIN, LAB)}
    steps = {name: found.of(name, "training_seconds") for name in (PLAIN, LAB)}
    beside = {name: by_round(lambda whole, part: whole - part, seconds[name], steps[name]) for name in (PLAIN, LAB)}
    return Section(
        name=NAME,
        title="A whole cell",
        told=f"Seconds from the start of the program to its end: a cell of `--scale small` with {epochs} epochs of "
        f"{pictures.train:,} images (a tenth of them val), in an empty folder. `cifar-lab train` starts, times a few "
        "steps to say how long it will take, trains, evaluates val and as many training images after each epoch and "
        "test at the end, keeps checkpoints, makes its MLflow store, tracks, draws its figures, and prints its table. "
        "The plain loop's script trains as long and evaluates as often, and does no more. Both find their images "
        "decoded, and import what they need.",
        tables=(
            Table(title="program", unit="seconds", against=PLAIN,
                  rows=tuple(Row(name=name, measured=value) for name, value in seconds.items())),
            Table(title="of that, training steps", unit="seconds", against=PLAIN,
                  rows=tuple(Row(name=name, measured=value) for name, value in steps.items())),
            Table(title="accuracy on test", unit="%",
                  rows=tuple(Row(name=name, measured=found.of(name, "accuracy")) for name in (PLAIN, LAB))),
        ),
        goals=(
            Goal(what="times as fast as the plain loop's script", at="least", limit=WANTED, unit="×",
                 measured=ratio(seconds[PLAIN], seconds[LAB]),
                 why=f"its training steps are {ratio(steps[PLAIN], steps[LAB])} times as fast, and what is beside them "
                 f"takes {beside[LAB]} s, the script's {beside[PLAIN]} s"),
        ),
    )  # fmt: skip


def _pictures(asked: Asked) -> Pictures:
    count = asked.cell_images or asked.size(None, 300)
    if count is None:
        return Pictures.all_of(asked.data)
    return Pictures.some_of(asked.data, count, asked.scratch / "images")

"""One cell from an empty folder to its table, compared with the plain loop's script."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from side_by_side.contender import Asked, Contender, program, take_turns
from side_by_side.results import Goal, Section, Table, by_round, ratio

from cifar_lab.config import scale
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.data import load

PLAIN, LAB = "plain loop's script", "cifar-lab train"
TOLD = (
    "Seconds from the start of the program to its end: a cell of `--scale {}` with {} epochs of {:,} images (a "
    "tenth of them val), in an empty folder. `cifar-lab train` starts, times a few steps to say how long it will take, "
    "trains, evaluates val and as many training images after each epoch and test at the end, keeps checkpoints, makes "
    "its MLflow store, tracks, draws its figures, and prints its table. The plain loop's script trains as long and "
    "evaluates as often, and does no more. Both find their images decoded, and import what they need."
)


def measure(asked: Asked, rounds: int) -> Section:
    size, images = asked.size("small", "smoke"), len(load(asked.data).train_labels)
    small = scale.find_scale(size).apply(EFFICIENT_RESNET)
    epochs = asked.size(small.train.epochs, 1)
    train = (sys.executable, "-m", "cifar_lab", "train", "--scale", size, f"train.epochs={epochs}",
             "--data", asked.data, "--device", "cpu", "-y")  # fmt: skip
    script = program("plain_loop", "--width", small.model.width, "--epochs", epochs, "--data", asked.data)
    found = take_turns(
        [Contender(name=LAB, line=train, folder=asked.scratch / "cell", read=only_cell),
         Contender(name=PLAIN, line=script, folder=asked.scratch / "script")], rounds,
    )  # fmt: skip
    seconds, steps, accuracy = (
        {name: found.of(name, number) for name in (PLAIN, LAB)}
        for number in ("wall_seconds", "training_seconds", "accuracy")
    )
    beside = {name: by_round(lambda whole, part: whole - part, seconds[name], steps[name]) for name in seconds}
    why = (
        f"its training steps are {ratio(steps[PLAIN], steps[LAB])} times as fast, and what is beside them takes "
        f"{beside[LAB]} s, the script's {beside[PLAIN]} s"
    )
    return Section(
        name="cell", title="A whole cell", told=TOLD.format(size, epochs, images),
        tables=(Table("program", "seconds", seconds, against=PLAIN),
                Table("of that, training steps", "seconds", steps, against=PLAIN),
                Table("accuracy on test", "%", accuracy)),
        goals=(Goal(what="times as fast as the plain loop's script", at="least", limit=2.5, unit="×",
                    measured=ratio(seconds[PLAIN], seconds[LAB]), why=why),),
    )  # fmt: skip


def only_cell(printed: str, folder: Path) -> Mapping[str, float]:  # noqa: ARG001 (a Read)
    """Return the metrics of the one cell in `runs`, which must be finished."""
    (path,) = (folder / "runs").glob("*/result.json")
    result = json.loads(path.read_text())
    if result["status"] != "finished":
        raise ValueError(f"the cell {result['status']}")
    return {"accuracy": 100 * result["metrics"]["test/acc"], "training_seconds": result["metrics"]["seconds"]}

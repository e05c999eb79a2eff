"""Cost of the input pipeline: images are selected, cropped, flipped, normalised, mixed."""

from __future__ import annotations

from side_by_side.asked import Asked
from side_by_side.goal import Goal
from side_by_side.section import Row, Section, Table
from side_by_side.spread import by_round, ratio
from side_by_side.turns import take_turns

from sections.lab import steps

NAME = "input"
ROUNDS = 1
SHARE, TIMES = 2.0, 8.0
STEP = "a training step, width 16"
KINDS = {"crop, flip, normalise": (), "with MixUp and CutMix": ("--mix",)}
TOLD = """Images a second of the input by itself, on the same cores. `cifar-lab`: the draws of an epoch, then its
batches, augmented whole. PIL DataLoader: torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and Normalize in
two workers, where it mixes in `collate_fn` (one of CutMix and MixUp a batch), as torchvision's guide does. A share of
a step is the input's time over the time of a training step at width 16, measured in the same round."""


def measure(asked: Asked, rounds: int) -> Section:
    lab, pil = ({kind: f"{name}, {kind}" for kind in KINDS} for name in ("cifar-lab", "PIL DataLoader"))
    contenders = [steps(asked, STEP, "lab_loop", 16, asked.size((5, 20), (1, 1)))]
    for kind, words in KINDS.items():
        contenders.append(steps(asked, lab[kind], "lab_input", 16, asked.size((20, 200), (1, 2)), *words))
        contenders.append(steps(asked, pil[kind], "plain_input", 16, asked.size((20, 100), (1, 2)), *words))
    found = take_turns(contenders, rounds, asked.say)
    speed = {each.name: found.of(each.name, "images_per_second") for each in contenders}
    goals = []
    for kind in KINDS:
        mine, theirs = speed[lab[kind]], speed[pil[kind]]
        share = by_round(lambda training, feeding: 100 * training / feeding, speed[STEP], mine)
        goals.append(Goal(what=f"{kind}: share of a step", at="most", limit=SHARE, unit="%", measured=share))
        goals.append(Goal(what=f"{kind}: over the PIL DataLoader", at="least", limit=TIMES, unit="×",
                          measured=ratio(mine, theirs)))  # fmt: skip
    tables = (
        Table(title=kind, unit="images/s", against=pil[kind],
              rows=tuple(Row(name=name, measured=speed[name]) for name in (pil[kind], lab[kind], STEP)))
        for kind in KINDS
    )  # fmt: skip
    return Section(name=NAME, title="Input", told=TOLD, tables=tuple(tables), goals=tuple(goals))

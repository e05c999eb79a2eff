"""Duration of planning many cells, and of finding them all finished."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from side_by_side.asked import Asked
from side_by_side.contender import Contender, program, run
from side_by_side.goal import Goal
from side_by_side.section import Row, Section, Table
from side_by_side.spread import Absent, Found, Spread
from side_by_side.turns import take_turns

NAME = "planning"
ROUNDS = 1
PLAN_SECONDS, AGAIN_SECONDS = 1.0, 2.0
VARIANTS = 5
"""Number of variants of the study, `se_ratio`; its size is set by the number of seeds."""
STEADY = 1.25
"""Limit of the ratio of the times for both halves of the cells: it is 1 if time grows in proportion, 3 if with the
square."""
TOLD = """Seconds beyond the imports: from the first line of the command to its end, less what its main thread spends
in loading modules (`benchmarks/programs/beyond_imports.py`). `plan` of a study of which nothing is trained;
`run-ablation` of one of which every cell is finished, which trains nothing and prints its table. The finished cells
are records written by hand, two epochs each, without weights. With the store: MLflow's own has all the cells already,
and the run waits until it has seen that. `plan` also times a few steps to estimate, however many cells there are: see
the row of the least cells."""


@dataclass(frozen=True)
class _Scene:
    """Folder with the same content before every round."""

    folder: Path

    def keep(self) -> None:
        shutil.copytree(self.folder, self._kept)

    def restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._kept, self.folder)

    @property
    def _kept(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.kept")


def measure(asked: Asked, rounds: int) -> Section:
    sizes = (VARIANTS, *asked.size((250, 500, 1000), (10, 15, 25)))
    most = sizes[-1]
    missing = {_words(size, "missing"): _plan(asked, size) for size in sizes}
    finished = {_words(size, "finished"): _again(asked, size) for size in sizes}
    stored = {_words(most, "finished, with the store"): _again(asked, most, with_store=True)}
    groups = {"plan": missing, "run-ablation": {**finished, **stored}}
    contenders = [each for group in groups.values() for each in group.values()]
    found = take_turns(contenders, rounds, asked.say)
    beyond = {each.name: found.of(each.name, "beyond") for each in contenders}
    tables = tuple(
        Table(title=f"{title} of se_ratio", unit="s beyond the imports",
              rows=tuple(Row(name=words, measured=beyond[each.name]) for words, each in group.items()))
        for title, group in groups.items()
    )  # fmt: skip
    goals = (
        _limit(beyond, missing, "plan", PLAN_SECONDS),
        _limit(beyond, finished, "run-ablation, offline", AGAIN_SECONDS),
        _limit(beyond, stored, "run-ablation", AGAIN_SECONDS),
        _growth(beyond, missing, "plan"),
        _growth(beyond, finished, "run-ablation, offline"),
    )
    longest = {"plan": missing, "run-ablation": finished, "run-ablation, with the store": stored}
    notes = tuple(
        f"imports of {title}: {found.of(list(group.values())[-1].name, 'imports')} s"
        for title, group in longest.items()
    )
    return Section(name=NAME, title="Many cells", told=TOLD, tables=tables, goals=goals, notes=notes)


def _words(size: int, state: str) -> str:
    return f"{size:,} cells {state}"


def _study(asked: Asked, size: int) -> tuple[str, ...]:
    """Return the words that select a study of so many cells."""
    return ("se_ratio", "--scale", "smoke", "--seeds", f"0-{size // VARIANTS - 1}", "--data", asked.data)


def _plan(asked: Asked, size: int) -> Contender:
    line = program("beyond_imports", "plan", *_study(asked, size), "--device", "cpu")
    return Contender(name=f"plan, {size} cells", line=line, folder=asked.scratch / "plan")


def _again(asked: Asked, size: int, *, with_store: bool = False) -> Contender:
    """Return a re-run in a folder that is created once, and restored before each round."""
    scene = _Scene(asked.scratch / f"finished-{size}{'-stored' * with_store}")
    scene.folder.mkdir()
    words = _study(asked, size)
    asked.say(f"  writing {size} finished cells{' and shipping them' * with_store}")
    run([*program("finish_study", *words), *(["--ship"] if with_store else [])], scene.folder, {})
    scene.keep()
    words = ("run-ablation", *words, "--device", "cpu", "-y", *([] if with_store else ["--offline"]))
    name = f"run-ablation, {size} cells{', with the store' * with_store}"
    line = program("beyond_imports", *words)
    return Contender(name=name, line=line, folder=scene.folder, prepare=scene.restore)


def _limit(beyond: dict[str, Found], group: dict[str, Contender], title: str, seconds: float) -> Goal:
    words, contender = list(group.items())[-1]
    least, first = next(iter(group.items()))
    why = f"with {least} it is {beyond[first.name]} s already" if first is not contender else ""
    return Goal(what=f"{title}, {words}", at="most", limit=seconds, unit="s", measured=beyond[contender.name], why=why)


def _growth(beyond: dict[str, Found], group: dict[str, Contender], title: str) -> Goal:
    """Return the goal on growth by the medians: differences within single rounds are too noisy."""
    least, *_, half, whole = (beyond[contender.name] for contender in group.values())
    what = f"{title}: the second half of the cells, over the first"
    return Goal(what=what, at="most", limit=STEADY, unit="×", measured=growth(least, half, whole))


def growth(least: Found, half: Found, whole: Found) -> Found:
    """Return the ratio of the times for the second and the first half of the cells, by the medians."""
    every: Sequence[Found] = (least, half, whole)
    for one in every:
        if isinstance(one, Absent):
            return one
    low, between, high = (one.median for one in every if isinstance(one, Spread))
    if not low < between < high:
        return Absent("more cells do not take longer: chance is larger than what is measured")
    return Spread(((high - between) / (between - low),))

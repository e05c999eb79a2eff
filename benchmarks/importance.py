"""Count how often the importances of a search name the right dimension, on functions whose importances are known.

    python benchmarks/importance.py --searches 30      # markdown tables on standard output; Ctrl-C ends it early

Nothing is trained. A made-up accuracy is a sum of one effect per dimension of the lab's space `writeup` plus noise: a
choice has a random value for each option, a rate is best somewhere in its range, the width helps ever less. The effects
are scaled so that each dimension has a given share of the variance over the space, and which dimension has which share
is drawn anew for each search. A search asks the product's sampler. After 10, 20, 30, … trials the importances are
computed as `sweep-importance` does, and compared with the truth: for fANOVA the shares, for PED-ANOVA its own answer on
hundreds of candidates without noise. Bootstrap intervals are those of the product. They are held against the truth,
and against what fANOVA says after a long search by random trials of the same noise: a forest is biased with any number.
"""

from __future__ import annotations

import argparse
import copy
import math
import platform
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, NamedTuple

import optuna
from fast_fanova import check, fast_trees
from markdown_table import table
from optuna.trial import FrozenTrial

from cifar_lab.report.importance_table import RANDOM, STEADY
from cifar_lab.search.dimension import RandomTrial
from cifar_lab.search.importance import (
    RESAMPLES,
    TREES,
    UNBIASED,
    bootstrap_intervals,
    bootstrap_shares,
    importance_shares,
)
from cifar_lab.search.samplers import make_sampler
from cifar_lab.search.space import Space
from cifar_lab.search.spaces import find_space

WORLDS = {
    "one leads": (50, 14, 10, 8, 6, 4, 3, 2, 1, 1, 1, 0, 0),
    "two lead": (35, 22, 12, 9, 7, 5, 4, 3, 2, 1, 0, 0, 0),
    "spread": (20, 15, 13, 11, 10, 9, 7, 6, 4, 3, 2, 0, 0),
}
"""Shares of the variance in per cent, the largest first."""
SIZES = (20, 30, 50, 75, 100, 150, 200)
EVALUATORS = {"fanova": "fANOVA", "ped_anova": "PED-ANOVA"}
NOISE = 0.3
"""Deviation of the noise over that of the noise-free values: two seeds of one recipe differ as well."""
DRAWS = 500
"""Candidates from which effects are standardized, and the truth of PED-ANOVA is computed."""
LONG, LONG_TREES = 2000, 8
"""Trials of a long search by random trials, and trees of fANOVA's forest there."""
Effect = Callable[[Any], float]


@dataclass(frozen=True)
class World:
    """One function of a candidate's parameters, with the true importances by evaluator."""

    effects: Mapping[str, Effect]
    truth: Mapping[str, Mapping[str, float]]

    def value(self, params: Mapping[str, Any]) -> float:
        """Return the noise-free value, with mean 0 and deviation 1 over the space."""
        return sum(effect(params[name]) for name, effect in self.effects.items())


def make_world(space: Space, shares: Sequence[float], chance: random.Random) -> World:
    """Return a world in which the dimensions, in random order, have these shares."""
    drawn = [RandomTrial(chance) for _ in range(DRAWS)]
    for trial in drawn:
        space.suggest(trial)
    names = [dimension.name for dimension in space.dimensions if not dimension.when]
    assert len(names) == len(shares), f"the space has {len(names)} dimensions that are always asked for"
    order = chance.sample(names, len(names))
    effects = {
        name: _scaled(_shape(space, name, chance), [trial.params[name] for trial in drawn], share / 100)
        for name, share in zip(order, shares, strict=True)
    }
    known = {name: share / 100 for name, share in zip(order, shares, strict=True)}
    exact = World(effects, {})
    asked = list(_with_values(space, exact, drawn))
    return World(effects, {"fanova": known, "ped_anova": importance_shares(asked, "ped_anova")})


def _shape(space: Space, name: str, chance: random.Random) -> Effect:
    """Return an effect of any size: of a choice, of a rate, or of a width."""
    dimension = next(each for each in space.dimensions if each.name == name)
    if dimension.labels:
        values = {label: chance.gauss(0, 1) for label in dimension.labels}
        return lambda taken: values[taken]
    low, high = float(dimension.samples()[0]), float(dimension.samples()[-1])
    if getattr(dimension, "log", False):
        best = chance.uniform(math.log(low), math.log(high))
        return lambda taken: -((math.log(taken) - best) ** 2)
    return lambda taken: math.log(taken)


def _scaled(effect: Effect, sample: Sequence[Any], share: float) -> Effect:
    """Return the effect with mean 0 and variance `share` over the sample."""
    values = [effect(taken) for taken in sample]
    mean, spread = statistics.fmean(values), statistics.pstdev(values)
    return lambda taken: math.sqrt(share) * (effect(taken) - mean) / spread


def _with_values(space: Space, world: World, drawn: Iterable[RandomTrial]) -> Iterable[FrozenTrial]:
    """Yield the candidates as Optuna's trials, with their noise-free values."""
    for trial in drawn:
        fixed = optuna.trial.FixedTrial(dict(trial.params))
        space.suggest(fixed)
        value = world.value(trial.params)
        yield optuna.trial.create_trial(value=value, params=fixed.params, distributions=fixed.distributions)


def searched(space: Space, world: World, sampler: str, seed: int, trials: int) -> list[FrozenTrial]:
    """Return the trials of one search, with noise."""
    study = optuna.create_study(direction="maximize", sampler=make_sampler(sampler, seed=seed))
    first, chance = space.params_of(space.baseline), random.Random(seed)
    assert first is not None, "the baseline is in the space"
    study.enqueue_trial(first)
    for _ in range(trials):
        trial = study.ask()
        space.suggest(trial)
        study.tell(trial, world.value(trial.params) + chance.gauss(0, NOISE))
    found = study.get_trials(deepcopy=False)
    for each in found:  # half of the time of a resample is Optuna's deep copies
        each.__dict__["__deepcopy__"] = lambda _, own=each: copy.copy(own)
    return found


class Interval(NamedTuple):
    """Bootstrap interval of the share of one dimension, with what it should hold."""

    leads: bool
    """Whether the dimension is the true leader."""
    truth: float
    long: float
    """Share after a long search."""
    share: float
    low: float
    high: float


@dataclass
class Score:
    """Results of one evaluator after one number of trials."""

    leads: list[bool] = field(default_factory=list)
    near: list[bool] = field(default_factory=list)
    """Whether the true leader is among the first three, by search."""
    stable: list[bool] = field(default_factory=list)
    """Whether one dimension led in `STEADY` of the resamples, by search."""
    intervals: list[Interval] = field(default_factory=list)
    """An entry for each dimension of each search."""

    def extend(self, other: Score) -> None:
        """Add the entries of another score."""
        for name in ("leads", "near", "stable", "intervals"):
            getattr(self, name).extend(getattr(other, name))


Key = tuple[str, str, int]
"""Sampler, evaluator, and number of trials."""


@dataclass(frozen=True)
class Task:
    """One search by each sampler in one world, judged after each number of trials, with a bootstrap after some."""

    samplers: Sequence[str]
    sizes: Sequence[int]
    bootstrap: frozenset[int]
    trees: int
    resamples: int

    def cases(self) -> list[Key]:
        """Return the keys of a search's scores."""
        return [(sampler, name, size) for sampler in self.samplers for name in EVALUATORS for size in self.sizes]

    def run(self, world: str, seed: int) -> dict[Key, Score]:
        """Return the scores of the searches."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        space = find_space("writeup")
        made = make_world(space, WORLDS[world], random.Random(seed))
        trials = {sampler: searched(space, made, sampler, seed, max(self.sizes)) for sampler in self.samplers}
        check(trials[self.samplers[0]][:20], lambda own: importance_shares(own, "fanova", trees=2))
        long = dict(made.truth)
        with fast_trees():
            if self.bootstrap:
                many = searched(space, made, RANDOM, seed + 1_000_000, LONG)
                long["fanova"] = importance_shares(many, "fanova", trees=LONG_TREES)
            return {key: self.score(key, trials[key[0]], made.truth[key[1]], long[key[1]]) for key in self.cases()}

    def score(
        self, key: Key, trials: Sequence[FrozenTrial], truth: Mapping[str, float], long: Mapping[str, float]
    ) -> Score:
        """Return the score of one search, given its trials."""
        sampler, evaluator, size = key
        shares = importance_shares(trials[:size], evaluator, trees=self.trees)
        ranked, leader = sorted(shares, key=lambda name: -shares[name]), max(truth, key=lambda name: truth[name])
        score = Score(leads=[ranked[0] == leader], near=[leader in ranked[:3]])
        if size in self.bootstrap and (sampler == RANDOM or evaluator not in UNBIASED):
            drawn = bootstrap_shares(trials[:size], evaluator, resamples=self.resamples)
            first = [max(each, key=lambda name: each[name]) for each in drawn]
            score.stable.append(first.count(ranked[0]) / len(first) >= STEADY)
            score.intervals += [
                Interval(name == leader, truth.get(name, 0.0), long.get(name, 0.0), shares[name], *ends)
                for name, ends in bootstrap_intervals(shares, drawn).items()
            ]
        return score


def rankings(scores: Mapping[tuple[str, Key], Score]) -> Iterable[list[object]]:
    """Yield a row on how often the leader is right."""
    for (world, (sampler, evaluator, size)), score in scores.items():
        steady = [right for right, stable in zip(score.leads, score.stable, strict=False) if stable]
        yield [
            world, EVALUATORS[evaluator], sampler, size, percent(score.leads), percent(score.near),
            percent(score.stable), percent(steady),
        ]  # fmt: skip


def coverages(scores: Mapping[tuple[str, Key], Score]) -> Iterable[list[object]]:
    """Yield a row on how often an interval holds what it should, for the true leader and for all dimensions."""
    for (world, (sampler, evaluator, size)), score in scores.items():
        leaders = [each for each in score.intervals if each.leads]
        if leaders:
            means = [statistics.mean(getattr(each, name) for each in leaders) for name in ("long", "share")]
            groups = (leaders, score.intervals)
            yield [
                world, EVALUATORS[evaluator], sampler, size,
                *(percent([each.low <= each.truth <= each.high for each in some]) for some in groups),
                *(percent([each.low <= each.long <= each.high for each in some]) for some in groups),
                *(f"{mean:.2f}" for mean in means), f"{statistics.mean(each.high - each.low for each in leaders):.2f}",
            ]  # fmt: skip


def percent(found: Sequence[bool]) -> str:
    return f"{100 * statistics.mean(found):.0f}" if found else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=30, help="searches behind each number")
    parser.add_argument("--samplers", default="tpe,random", help="samplers of the searches")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of trials")
    parser.add_argument("--bootstrap", default="30,50,100", help="numbers of trials with a bootstrap, of them")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--trees", type=int, default=TREES, help="trees of fANOVA's forest")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="resamples of a bootstrap")
    asked = parser.parse_args()
    sizes, bootstrap = ([int(size) for size in text.split(",") if size] for text in (asked.sizes, asked.bootstrap))
    task = Task(asked.samplers.split(","), sizes, frozenset(bootstrap), asked.trees, asked.resamples)
    scores = {(world, key): Score() for world in (*WORLDS, "all") for key in task.cases()}
    begun = time.perf_counter()
    number = 0
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        done = {pool.submit(task.run, world, seed): world for seed in range(asked.searches) for world in WORLDS}
        try:
            for number, future in enumerate(as_completed(done), start=1):
                for key, score in future.result().items():
                    for world in (done[future], "all"):
                        scores[world, key].extend(score)
                print(f"{number} of {len(done)}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:  # the tables have what is there
            pool.shutdown(wait=False, cancel_futures=True)
    print(f"{number} times a search by each of {asked.samplers}; noise {NOISE}, {asked.trees} trees\n")
    common = ("world", "importance", "sampler", "trials")
    ranked = ("right leader %", "it is in the first three %", "stable leader %", "a stable leader is right %")
    print("\n".join(table((*common, *ranked), rankings(scores), left=3)), end="\n\n")
    held = ("holds the truth %: leader", "all", "holds a long search's %: leader", "all",
            "leader's share: long search", "here", "width")  # fmt: skip
    print("\n".join(table((*common, *held), coverages(scores), left=3)), end="\n\n")
    for world, shares in WORLDS.items():
        print(f"- {world}: shares {', '.join(map(str, shares))} %")
    versions = f"python {platform.python_version()}, optuna {optuna.__version__}"
    print(f"\n{versions}; {time.perf_counter() - begun:,.0f} s with {asked.workers} workers")


if __name__ == "__main__":
    main()

"""Compare ways of treating candidates over the budget in a search, which are never trained, on a surrogate.

    python benchmarks/budget.py --seeds 10      # a markdown table on standard output; minutes on one core

Nothing is trained: `surrogate` is a smooth function of a recipe with a little noise, designed so that accuracy grows
with parameters and the budget is a binding constraint. It shows which way finds good candidates in few trainings, not
how good they are. The space, the budget and the samplers are the product's; trial 0 is the baseline, as in a sweep. An
infeasible candidate has no accuracy of its own, so its value for a sampler is arbitrary: 0, or the median so far. Ways
and samplers alternate, seed by seed. The table has medians over the seeds, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
import random
import statistics
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import optuna
import torch
from markdown_table import table
from optuna.trial import TrialState

from cifar_lab.config import recipe
from cifar_lab.config.recipe import Recipe
from cifar_lab.models.resnet import ResNet
from cifar_lab.search import stored_trials
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import RandomTrial
from cifar_lab.search.samplers import make_sampler
from cifar_lab.search.space import Space
from cifar_lab.search.spaces import find_space

WAYS = {
    "constraint, pruned": "its constraint is set and it is pruned; gp and nsgaii see it completed with the median",
    "constraint, told 0": "its constraint is set, its value is 0",
    "constraint, told the median": "its constraint is set, its value is the median of what was trained",
    "rejection, pruned": "it is pruned, and another one asked for",
    "rejection, failed": "it is failed, and another one asked for",
    "penalty": "its value is the median of what was trained, less 0.1 × the excess",
}
SAME = {"gp": ("rejection, failed",), "random": tuple(WAYS)[1:], "nsgaii": ("rejection, failed",)}
"""Ways that are one to a sampler: gp sees neither pruned nor failed trials, random sees nothing."""
PENALTY = 0.1
"""Loss of accuracy at twice the budget."""
TRAINED, ASKED, EARLY = {"tpe": 50, "gp": 25, "nsgaii": 50, "random": 50}, 3, 15
"""Trials trained in one search; candidates for each of them, at most; trials after which the best is first recorded."""
OPTIMIZERS = {"sgd": 0.0, "sgd_nesterov": 0.002, "adam": -0.015, "adamw": -0.006, "muon": 0.003}
BEST_RATE = {"sgd": 1.0, "sgd_nesterov": 0.8, "adam": 1.5, "adamw": 2.0, "muon": 0.7}
"""Best rate in multiples of the usual one."""
NOISE = 0.0015
"""Standard deviation of the accuracy between two trainings of one recipe."""


def surrogate(tried: Recipe, params: dict[str, Any]) -> float:
    """Return a noise-free accuracy from 0.1 to 1; `params`: those of the trial, with rates in usual units."""
    model, data, optim, size = tried.model, tried.data, tried.optim, math.log10(parameters(tried.model) / 1e6)
    is_deep = sum(model.blocks) > 7
    value = 0.945 + 0.022 * math.tanh(size)  # more is better, and ever less so
    value += 0.004 * is_deep - 0.003 * (model.kernels[0] == 5) - 0.001 * (model.shortcut_kernels[0] == 3)
    value += {"none": 0.0, "stem": 0.001, "block": 0.004}[model.se.placement]
    value -= 0.001 * abs(math.log2(model.se.reduction / 8)) * (model.se.placement == "block")
    value += OPTIMIZERS[optim.name] - 0.006 * (optim.name == "adam" and is_deep)
    off = math.log10(params["lr / customary"] / BEST_RATE[optim.name] * 128 / tried.train.batch_size)
    value -= 0.03 * off**2 * (1.6 if optim.clip.by == "none" else 1.0)
    value -= 0.012 * math.log10(params["decay / customary"]) ** 2
    value += (0.004 + 0.006 * size) * (data.cutmix > 0) + 0.003 * size * (data.mixup > 0)
    value -= 0.005 * (data.mixup == 1.0 and data.cutmix == 1.0)
    value += 0.002 * optim.lookahead.enabled - 0.001 * (tried.train.batch_size == 256)
    return min(max(value, 0.1), 1.0)


@cache
def parameters(model: recipe.ModelConfig) -> int:
    """Count parameters as the budget does, but without the MACs, which is five times as fast."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ResNet(model).parameters())


def excess(tried: Recipe, budget: SearchBudget) -> float:
    """Return the relative excess of the parameters, as `SearchBudget.constraints` does."""
    return (parameters(tried.model) - budget.max_params) / budget.max_params


def check(space: Space, budget: SearchBudget, draws: int = 10) -> None:
    """Raise AssertionError unless excesses equal those of the product."""
    chance = random.Random(0)
    for _ in range(draws):
        tried = space.baseline.override(space.suggest(RandomTrial(chance)))
        assert {"parameters": excess(tried, budget)} == budget.constraints(tried)


@dataclass
class Search:
    """Results of one search.

    `infeasible`: for each candidate whether it was over the budget; `best`: noise-free accuracy of the candidate that
    looked best, after each training; `seconds`: CPU time, mostly of the sampler and of counting networks.
    """

    infeasible: list[bool] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def share(self, half: int) -> float:
        """Return the share of infeasible candidates in the first or the second half, in %."""
        middle = len(self.infeasible) // 2
        return 100 * statistics.mean(self.infeasible[middle:] if half else self.infeasible[:middle])


def search(space: Space, budget: SearchBudget, sampler: str, way: str, seed: int) -> Search:
    """Run one search of `TRAINED` trials."""
    done, chance, seen = Search(), random.Random(seed), list[tuple[float, float]]()
    study = optuna.create_study(direction="maximize", sampler=make_sampler(sampler, seed=seed))
    first = space.params_of(space.baseline)
    assert first is not None, "the baseline is in the space"
    study.enqueue_trial(first)
    begun = time.process_time()
    while len(seen) < TRAINED[sampler] and len(done.infeasible) < ASKED * TRAINED[sampler]:
        trial = study.ask()
        tried = space.baseline.override(space.suggest(trial))
        over = excess(tried, budget)
        done.infeasible.append(over > 0)
        trial.set_user_attr(stored_trials.DIFF, {})
        trial.set_user_attr(stored_trials.COUNTS, {})
        if way.startswith("constraint"):
            trial.set_constraint("parameters", over)
        if over > 0:
            _tell_infeasible(study, trial, way, over, [value for value, _ in seen])
            continue
        mean = surrogate(tried, trial.params)
        seen.append((mean + chance.gauss(0, NOISE), mean))
        study.tell(trial, seen[-1][0])
        done.best.append(max(seen)[1])
    done.seconds = time.process_time() - begun
    return done


def _tell_infeasible(study: optuna.Study, trial: optuna.Trial, way: str, over: float, trained: Sequence[float]) -> None:
    if way.endswith(("pruned", "failed")):
        study.tell(trial, state=TrialState.PRUNED if "pruned" in way else TrialState.FAIL)
    elif way == "penalty":
        study.tell(trial, statistics.median(trained) - PENALTY * over)
    else:
        study.tell(trial, statistics.median(trained) if "median" in way else 0.0)


def summary(searches: dict[tuple[str, str], list[Search]]) -> Iterable[str]:
    heading = ("sampler", "way", "infeasible, 1st half %", "2nd half %", "asked a training", f"best after {EARLY}",
               "best at the end", "ended early", "CPU s")  # fmt: skip
    return table(heading, [
        [
            sampler, way, *(spread([one.share(half) for one in found], 0) for half in (0, 1)),
            spread([len(one.infeasible) / max(1, len(one.best)) for one in found], 2),
            spread([100 * one.best[:EARLY][-1] for one in found], 2), spread([100 * one.best[-1] for one in found], 2),
            sum(len(one.best) < TRAINED[sampler] for one in found), spread([one.seconds for one in found], 0),
        ]
        for (sampler, way), found in searches.items()
    ], left=2)  # fmt: skip


def spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="searches behind each number")
    parser.add_argument("--samplers", default="tpe,gp,random", help="of them, which")
    parser.add_argument("--ways", default=";".join(WAYS), help="of the ways, which, separated by ;")
    parser.add_argument("--max-params", type=int, default=5_000_000, help="the budget")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    space, budget = find_space("writeup"), SearchBudget(max_params=asked.max_params)
    check(space, budget)
    every = itertools.product(asked.samplers.split(","), asked.ways.split(";"))
    searches = {(sampler, way): list[Search]() for sampler, way in every if way not in SAME.get(sampler, ())}
    begun = time.process_time()
    for seed in range(asked.seeds):
        for (sampler, way), found in searches.items():
            found.append(search(space, budget, sampler, way, seed))
    print(f"{asked.seeds} seeds, budget {budget.max_params:,} parameters, space '{space.name}'\n")
    print("\n".join([*summary(searches), *(f"- {way}: {meaning}" for way, meaning in WAYS.items())]), end="\n\n")
    versions = f"python {platform.python_version()}, optuna {optuna.__version__}, torch {torch.__version__}"
    print(f"{versions}; {time.process_time() - begun:,.0f} s of CPU time on {platform.machine()}")


if __name__ == "__main__":
    main()

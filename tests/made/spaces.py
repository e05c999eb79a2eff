"""Search spaces made by hand, and at random; and a study of one, whose trials nobody trains."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.scale import SCALES
from cifar_lab.search import stored_trials
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import Bundle, Choice, Dimension, Integer, Real
from cifar_lab.search.space import Space
from cifar_lab.search.spaces import find_space
from cifar_lab.search.study import StudySettings, open_study

SMALL = EFFICIENT_RESNET.override({"model.blocks": (1, 1), "model.width": 8})
RATES = {"sgd": 0.1, "adam": 0.001, "muon": 0.02}
WIDTH = Integer(path="model.width", low=4, high=16, step=4)


def space(*dimensions: Dimension, **changed: Any) -> Space:
    """A space around a small network; of the width alone, if no dimension is given."""
    fields = {"question": "What is best?", "baseline": SMALL, "dimensions": dimensions or (WIDTH,)}
    return Space(**(fields | changed))


def random_space(seed: int) -> Space:
    """Two to all of the kinds of dimensions, with random values, in an order that conditions allow."""
    chance = random.Random(seed)
    makers = [_network, _width, _kernel, _se, _optimizer, _clip, _mixup, _fc, _norm, _batch]
    chosen = chance.sample(makers, chance.randint(2, len(makers)))
    made = [dimension for maker in chosen for dimension in maker(chance)]
    return space(*made, baseline=SMALL.override({"model.se.placement": chance.choice(["none", "stem", "block"])}))


def _some(chance: random.Random, values: list[Any]) -> tuple[Any, ...]:
    return tuple(chance.sample(values, chance.randint(2, len(values))))


def _network(chance: random.Random) -> list[Dimension]:
    if chance.random() < 0.5:
        return [Choice(path="model.blocks", values=_some(chance, [(1,), (1, 1), (2, 1), (1, 2, 1), (1, 1, 1, 1)]))]
    options = {"flat": {"model.blocks": (2,)}, "plain": {}, "deep": {"model.blocks": (1, 2, 2), "model.dropout": 0.1}}
    return [Bundle(name="network", options={name: options[name] for name in _some(chance, list(options))})]


def _width(chance: random.Random) -> list[Dimension]:
    low, step = chance.randint(1, 12), chance.randint(1, 5)
    return [Integer(path="model.width", low=low, high=low + step * chance.randint(1, 6), step=step)]


def _kernel(chance: random.Random) -> list[Dimension]:
    return [Integer(path="model.kernel", low=1, high=chance.choice([3, 5, 7]), step=2)]


def _se(chance: random.Random) -> list[Dimension]:
    placement = Choice(path="model.se.placement", values=("block", "none", "stem"))
    when = {"model.se.placement": ("block",) if chance.random() < 0.5 else ("stem", "block")}
    return [placement, Integer(path="model.se.reduction", low=1, high=chance.randint(2, 32), log=True, when=when)]


def _optimizer(chance: random.Random) -> list[Dimension]:
    names = _some(chance, list(RATES))
    optimizer = Bundle(name="by", options={name: {"optim.name": name} for name in names})
    unit = {"by": {name: RATES[name] for name in names}}
    rate = Real(name="rate", path="optim.lr", low=0.1, high=chance.choice([1.0, 7.3]), log=True, unit=unit)
    decay = Real(path="optim.weight_decay", low=0.0, high=chance.random() + 1e-6, when={"by": names[:1]})
    return [optimizer, rate, decay]


def _clip(chance: random.Random) -> list[Dimension]:
    options = {
        "off": {"optim.clip.by": "none"},
        "value": {"optim.clip.by": "value", "optim.clip.threshold": chance.random() + 0.01},
        "norm": {"optim.clip.by": "norm"},
    }
    return [Bundle(name="clip", options=options)]


def _mixup(chance: random.Random) -> list[Dimension]:
    return [Real(path="data.mixup", low=0.0, high=chance.random() + 0.01)]


def _fc(chance: random.Random) -> list[Dimension]:
    return [Choice(path="model.extra_fc", values=_some(chance, [None, 8, 32, 128]))]


def _norm(chance: random.Random) -> list[Dimension]:
    return [Choice(path="model.batch_norm", values=_some(chance, [True, False]))]


def _batch(chance: random.Random) -> list[Dimension]:
    return [Integer(path="train.batch_size", low=chance.randint(1, 99), high=chance.randint(100, 999), log=True)]


class Told:
    """A study that nobody trains: each trial of it becomes what a test says. Trial 0 is the baseline's."""

    def __init__(self, source: str = "optimizer", *, storage: BaseStorage | None = None, **changed: Any) -> None:
        data = {"name": "CIFAR-10", "kind": "cifar10", "hash": "c" * 64, "source": "cifar10"}
        fields: dict[str, Any] = {
            "study": "wide", "space": find_space(source), "space_source": source, "scale": SCALES["small"],
            "data": data,
            "budget": SearchBudget(),
        }  # fmt: skip
        self.setting = StudySettings(**(fields | changed))
        self.study = open_study(
            storage or InMemoryStorage(), self.setting, RandomSampler(seed=0), optuna.pruners.NopPruner()
        )

    def begun(self, params: Mapping[str, Any] | None = None) -> optuna.Trial:
        """A trial that runs, with all that a sweep writes down of one; what `params` leaves out is random."""
        if params is not None:
            assert not self.study.get_trials(states=(TrialState.WAITING,)), "begin the baseline first"
            self.study.enqueue_trial(dict(params))
        trial = self.study.ask()
        diff = self.setting.space.suggest(trial)
        declared = self.setting.declared(diff)
        trial.set_user_attr(stored_trials.DIFF, diff)
        trial.set_user_attr(stored_trials.COUNTS, self.setting.budget.counts(declared))
        for name, excess in self.setting.budget.constraints(declared).items():
            trial.set_constraint(name, excess)
        return trial

    def trained(self, accuracy: float, params: Mapping[str, Any] | None = None, **attributes: Any) -> optuna.Trial:
        """With this accuracy on val; over the budget, it is an infeasible one."""
        trial = self.begun(params)
        counts = trial.user_attrs[stored_trials.COUNTS]
        known = {"accuracy": accuracy, "params": counts["parameters"], "macs": counts["macs"]}
        return self._ended(trial, [known[name] for name in self.setting.objectives], **attributes)

    def pruned(self, *reported: float, params: Mapping[str, Any] | None = None) -> optuna.Trial:
        """After as many epochs as it reported."""
        trial = self.begun(params)
        for epoch, accuracy in enumerate(reported, start=1):
            trial.report(accuracy, epoch)
        return self._ended(trial, state=TrialState.PRUNED, **{stored_trials.PRUNED_AT: len(reported)})

    def failed(self, error: str, params: Mapping[str, Any] | None = None) -> optuna.Trial:
        return self._ended(self.begun(params), state=TrialState.FAIL, **{stored_trials.ERROR: error})

    def _ended(
        self, trial: optuna.Trial, values: list[float] | None = None, state: TrialState | None = None, **attributes: Any
    ) -> optuna.Trial:
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, values, state=state)
        return trial

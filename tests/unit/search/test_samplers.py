"""Samplers and pruners by name: they learn, they say nothing, and what is not there is refused."""

from __future__ import annotations

import inspect
import logging
import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from made.spaces import RATES, WIDTH, space

from cifar_lab.errors import UsageError
from cifar_lab.search import stored_trials
from cifar_lab.search.dimension import Choice, Real
from cifar_lab.search.infeasible import completed
from cifar_lab.search.samplers import LEARNS_CONSTRAINTS, PRUNERS, SAMPLERS, make_pruner, make_sampler

SEARCHED = space(
    WIDTH,
    Choice(path="model.se.placement", values=("none", "stem", "block")),
    Choice(path="model.se.reduction", values=(2, 4, 8), when={"model.se.placement": ("stem", "block")}),
    Choice(path="optim.name", values=tuple(RATES)),
    Real(name="rate", path="optim.lr", low=0.1, high=10.0, log=True, unit={"optim.name": RATES}),
)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Yield Optuna's log, at level warning."""
    optuna.logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield caplog
    optuna.logging.disable_propagation()


def candidates(name: str, *, seed: int, trials: int, constraint: float | None = None) -> list[dict[str, Any]]:
    """Return a sampler's proposals on an objective that favours width; every other trial violates `constraint`."""
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, seed=seed, startup=3))
    for i in range(trials):
        trial = study.ask()
        diff = SEARCHED.suggest(trial)
        if constraint is not None:
            trial.set_constraint("parameters", constraint if i % 2 else -constraint)
        study.tell(trial, diff["model.width"])
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_proposes_candidates_of_the_space_in_silence(name: str, said: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = candidates(name, seed=0, trials=8)
    assert all(SEARCHED.diff_of(params) for params in found)
    assert not said.records


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_seed_is_one_search(name: str) -> None:
    first = candidates(name, seed=1, trials=6)
    assert first == candidates(name, seed=1, trials=6)
    assert first != candidates(name, seed=2, trials=6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_cmaes_complains_of_constraints(name: str) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        candidates(name, seed=0, trials=4, constraint=0.5)
    assert bool(heard) == (name == "cmaes")
    assert name not in LEARNS_CONSTRAINTS or not heard


@pytest.mark.parametrize("name", sorted(LEARNS_CONSTRAINTS))
def test_a_sampler_that_learns_constraints_comes_to_avoid_what_violates_one(name: str) -> None:
    share = {}
    for chosen in (name, "random"):
        violated = []
        for seed in range(2):
            study = optuna.create_study(direction="maximize", sampler=make_sampler(chosen, seed=seed, startup=6))
            for _ in range(14 if name == "gp" else 60):
                trial = study.ask()
                width = SEARCHED.suggest(trial)["model.width"]
                trial.set_constraint("parameters", (width - 8) / 8)
                violated.append(width > 8)
                study.tell(trial, width if width <= 8 else 0.0)
        share[chosen] = sum(violated) / len(violated)
    assert share[name] < share["random"] - 0.1


@pytest.mark.parametrize("name", sorted(LEARNS_CONSTRAINTS))
def test_a_candidate_without_a_value_teaches_what_one_with_the_median_does(name: str) -> None:
    def proposed(*, has_value: bool) -> list[dict[str, Any]]:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(name, seed=0, startup=4))
        measured = list[float]()
        for _ in range(12 if name == "gp" else 40):
            trial = study.ask()
            width = SEARCHED.suggest(trial)["model.width"]
            trial.set_user_attr(stored_trials.DIFF, {})
            trial.set_user_attr(stored_trials.COUNTS, {})
            trial.set_constraint("parameters", (width - 8) / 8)
            if width <= 8:
                measured.append(width)
                study.tell(trial, width)
            elif has_value and measured:
                study.tell(trial, statistics.median(measured))
            else:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return [trial.params for trial in study.trials]

    assert proposed(has_value=False) == proposed(has_value=True)


def test_what_a_sampler_sees_of_an_infeasible_trial_is_in_no_storage() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr("setting", {"objectives": ["accuracy", "params"]})
    for values in ([0.5, 10.0], None, [0.9, 20.0]):
        trial = study.ask()
        trial.set_user_attr(stored_trials.DIFF, {})
        trial.set_user_attr(stored_trials.COUNTS, {"parameters": 70, "macs": 1})
        trial.set_constraint("parameters", -1.0 if values else 2.0)
        study.tell(trial, values, state=None if values else optuna.trial.TrialState.PRUNED)
    assert [trial.values for trial in completed(study.trials, ("accuracy", "params"))][1] == [0.5, 70.0]
    assert [trial.values for trial in study.trials] == [[0.5, 10.0], None, [0.9, 20.0]]


def test_tpe_is_multivariate_with_a_constant_liar_as_optuna_has_it() -> None:
    parameters = inspect.signature(optuna.samplers.TPESampler).parameters
    assert parameters["constant_liar"].default is True
    candidate = make_sampler("tpe", seed=0, startup=1)
    study = optuna.create_study(direction="maximize", sampler=candidate)
    for value in (1.0, 2.0):
        trial = study.ask()
        SEARCHED.suggest(trial)
        study.tell(trial, value)
    together = candidate.infer_relative_search_space(study, study.trials[-1])
    assert {"model.width", "optim.name", "rate"} <= set(together)


@pytest.mark.parametrize(
    ("name", "said"),
    [("tep", "no sampler named 'tep'; did you mean 'tpe'?"), ("GP", "mean 'gp'?"), ("xxxx", "one of: tpe, gp, nsgaii")],
)
def test_an_unknown_sampler_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_sampler(name, seed=0)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"seed": -1}, "got -1"), ({"seed": 2**32}, "4294967295"), ({"seed": 0, "startup": 0}, "got 0")],
)
def test_a_seed_or_a_start_out_of_range_is_refused(fields: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_sampler("tpe", **fields)


# Pruners


def stopped_after(name: str, *, epochs: int, trials: int = 12) -> list[int]:
    """The epochs that each trial trained; the later a trial, the worse."""
    study = optuna.create_study(
        direction="maximize", sampler=make_sampler("random", seed=0), pruner=make_pruner(name, epochs=epochs)
    )
    trained = []
    for i in range(trials):
        trial = study.ask()
        for epoch in range(1, epochs + 1):
            trial.report(1 / (i + 1) + epoch / epochs, epoch)
            if trial.should_prune() and epoch < epochs:
                break
        trained.append(epoch)
        study.tell(trial, 1 / (i + 1))
    return trained


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("epochs", [1, 2, 10, 200])
def test_a_pruner_suits_trainings_of_any_length(name: str, epochs: int) -> None:
    trained = stopped_after(name, epochs=epochs)
    assert trained[0] == epochs
    assert min(trained) >= 1


def test_pruners_stop_what_is_bad_and_none_stops_nothing() -> None:
    assert stopped_after("none", epochs=30) == [30] * 12
    assert stopped_after("median", epochs=30)[-1] < 30
    assert min(stopped_after("hyperband", epochs=30)) < 30


def test_the_median_gives_a_fifth_and_hyperband_a_twenty_seventh_of_the_training() -> None:
    assert min(stopped_after("median", epochs=100)) >= 20
    assert min(stopped_after("hyperband", epochs=270, trials=30)) == 10


@pytest.mark.parametrize(("name", "said"), [("hyperbnd", "mean 'hyperband'?"), ("", "one of: hyperband, median, none")])
def test_an_unknown_pruner_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_pruner(name, epochs=10)
    assert said in str(caught.value)


def test_a_training_has_an_epoch() -> None:
    with pytest.raises(UsageError, match="1 epoch or more, got 0"):
        make_pruner("median", epochs=0)


def test_names_are_known_without_optuna() -> None:
    program = (
        "import sys; from cifar_lab.search import samplers; samplers.SAMPLERS;"
        "sys.exit('loaded' if {'optuna', 'torch'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

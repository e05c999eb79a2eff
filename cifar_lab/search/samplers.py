"""Who proposes the next candidate, and who stops one early: by name, with settings that suit tens of trials.

Nothing here imports Optuna before a sampler is made: that takes half a second, and GPSampler imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cifar_lab.errors import UsageError, nearest

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "gp", "nsgaii", "random", "cmaes")
LEARNS_CONSTRAINTS = frozenset({"tpe", "gp", "nsgaii"})
"""Samplers that learn from what a trial violates. The others pass over it; cmaes warns at each such trial."""
SEEDS = 2**32
PRUNERS = ("hyperband", "median", "none")
RUNGS = 27
"""Hyperband's shortest look is at this fraction of the training: after 7 of 200 epochs. Four brackets."""
GRACE = 5
"""The median's first look is after this fraction of the training."""


def require_names(sampler: str, pruner: str, *, seed: int = 0) -> None:
    """Refuse a sampler or pruner that is not there, and a seed out of range, without importing Optuna.

    Raises:
        UsageError: one of them is not there; the nearest name is named.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"no sampler named '{sampler}'{nearest(sampler, SAMPLERS)}")
    if pruner not in PRUNERS:
        raise UsageError(f"no pruner named '{pruner}'{nearest(pruner, PRUNERS)}")
    if not 0 <= seed < SEEDS:
        raise UsageError(f"the seed of a sampler is from 0 to {SEEDS - 1}, got {seed}")


def make_sampler(name: str, *, seed: int, startup: int = 10) -> BaseSampler:
    """Return the sampler of that name.

    `seed`: workers of one study need different ones, else they propose the same. `startup`: random trials before it
    learns; of nsgaii half its population. tpe is as Optuna has it: multivariate, and what other workers try at the
    moment counts as bad. gp and cmaes cannot model a dimension that is not always suggested, nor cmaes a choice; a
    tpe proposes these.

    Raises:
        UsageError: there is none, or the seed or the number of random trials is out of range.
    """
    require_names(name, "none", seed=seed)
    if startup < 1:
        raise UsageError(f"a sampler starts with 1 random trial or more, got {startup}")
    from optuna import samplers

    from cifar_lab.search.infeasible import SeesInfeasible

    tpe = samplers.TPESampler(seed=seed, n_startup_trials=startup)
    match name:
        case "tpe":
            return tpe
        case "gp":
            gp = samplers.GPSampler(
                seed=seed, n_startup_trials=startup, independent_sampler=tpe, warn_independent_sampling=False
            )
            return SeesInfeasible(gp)
        case "nsgaii":
            return SeesInfeasible(samplers.NSGAIISampler(seed=seed, population_size=2 * startup))
        case "cmaes":
            return samplers.CmaEsSampler(
                seed=seed, n_startup_trials=startup, independent_sampler=tpe, warn_independent_sampling=False
            )
    return samplers.RandomSampler(seed=seed)


def make_pruner(name: str, *, epochs: int) -> BasePruner:
    """Return the pruner of that name, for trainings of `epochs` epochs that report after each, from 1 on.

    Hyperband deals trials out to up to four brackets, and a sampler learns within each alone: with 10 random trials to
    start with, the first 40 or so are random. The median keeps the study whole, which suits tens of trials.

    Raises:
        UsageError: there is none, or no epoch.
    """
    require_names("random", name)
    if epochs < 1:
        raise UsageError(f"a training has 1 epoch or more, got {epochs}")
    from optuna import pruners

    match name:
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=max(1, epochs // RUNGS), max_resource=epochs)
        case "median":
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // GRACE))
    return pruners.NopPruner()

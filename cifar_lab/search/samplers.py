"""Samplers and pruners by name, with settings that suit tens of trials.

Optuna is imported only when a sampler is created: that takes half a second, and GPSampler imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cifar_lab.errors import UsageError, nearest

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "gp", "nsgaii", "random", "cmaes")
LEARNS_CONSTRAINTS = frozenset({"tpe", "gp", "nsgaii"})
"""Samplers that learn from constraint violations. The others ignore such trials; cmaes warns at each of them."""
SEEDS = 2**32
PRUNERS = ("hyperband", "median", "none")
RUNGS = 27
"""Ratio of the training length to Hyperband's shortest one: 7 of 200 epochs. This gives four brackets."""
GRACE = 5
"""Ratio of the training length to the time of the median pruner's first check."""


def require_sampler(sampler: str, pruner: str, *, seed: int = 0) -> None:
    """Check that sampler, pruner and seed are valid, without importing Optuna.

    Raises:
        UsageError: a name is unknown, with the nearest valid one, or the seed is out of range.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"no sampler named '{sampler}'{nearest(sampler, SAMPLERS)}")
    if pruner not in PRUNERS:
        raise UsageError(f"no pruner named '{pruner}'{nearest(pruner, PRUNERS)}")
    if not 0 <= seed < SEEDS:
        raise UsageError(f"the seed of a sampler is from 0 to {SEEDS - 1}, got {seed}")


def make_sampler(name: str, *, seed: int, startup: int = 10) -> BaseSampler:
    """Return the sampler of this name.

    `seed`: workers of one study need different ones, otherwise they propose the same candidates. `startup`: random
    trials before it learns; for nsgaii half its population. tpe is multivariate, and treats trials in progress as bad.
    gp and cmaes cannot model a dimension that is not always suggested, nor cmaes a choice; a tpe proposes those.

    Raises:
        UsageError: the name is unknown, or the seed or the number of random trials is out of range.
    """
    require_sampler(name, "none", seed=seed)
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
    """Return the pruner of this name, for trainings of `epochs` epochs that report after each, from 1 on.

    Hyperband distributes trials over up to four brackets, and a sampler learns within each separately: with 10 initial
    random trials, about the first 40 are random. The median pruner has no brackets, which suits tens of trials.

    Raises:
        UsageError: the name is unknown, or `epochs` is below 1.
    """
    require_sampler("random", name)
    if epochs < 1:
        raise UsageError(f"a training has 1 epoch or more, got {epochs}")
    from optuna import pruners

    match name:
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=max(1, epochs // RUNGS), max_resource=epochs)
        case "median":
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // GRACE))
    return pruners.NopPruner()

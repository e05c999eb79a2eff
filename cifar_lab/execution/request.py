"""Request for a plan: arguments are checked first, then the images are read and a few steps are timed.

The command line and the public API share it: the former parses words to a `RequestArguments`, the latter is given
values.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cifar_lab import extension
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config import scale
from cifar_lab.data import NAMES, absolute, load, require_source
from cifar_lab.execution import engine
from cifar_lab.text import duration, many

if TYPE_CHECKING:
    from cifar_lab.config.execution import Execution
    from cifar_lab.data.dataset import Dataset
    from cifar_lab.execution.estimate import TrainingSpeed
    from cifar_lab.execution.plan import Plan
    from cifar_lab.execution.settings import Node


NOT_TIMED = "no estimates: this machine has no {device} device to time steps on; {count} a GPU (--cells-per-gpu)"
EMULATED = {
    "cpu": "note: this processor has no units for {}: it computes in fp32 and rounds, in about the time of fp32",
    "cuda": "warning: this GPU has no units for {} and is slower in it than in fp32; train.precision=auto avoids it",
}


class RequestArguments(NamedTuple):
    """Parsed arguments of a request: what to train, and where."""

    scale: scale.Scale
    overrides: Mapping[str, object]
    variants: list[str] | None
    """None for all."""
    seeds: tuple[int, ...] | None
    """None for the ablation's own."""
    max_params: int
    """Budget of trainable parameters, as declared."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `mps` or one GPU, `cuda:1`."""
    workers: str = "auto"
    """`auto` or a number of processes from 1 up."""
    cells_per_gpu: int | None = None
    """None: measured on CUDA."""
    nodes: tuple[Node, ...] | None = None
    """Machines of the cluster that cells are trained on; None: this machine."""


class Request(NamedTuple):
    """A plan with its estimates and its execution settings."""

    plan: Plan
    execution: Execution
    workers: int
    pace: TrainingSpeed
    """Measured pace, for estimates of other plans."""
    compile: bool | None = None
    """Option as typed; None if it is to be decided."""
    places: tuple[str, ...] = ()
    """GPUs that cells may be trained on, `cuda:0`; empty for other devices."""
    cells_per_gpu: int = 1
    """Option as typed, or as measured on CUDA."""

    @property
    def seconds(self) -> float:
        """Estimated seconds for all workers together."""
        return remaining_seconds(self.plan, self.workers)


def resolve_request(
    ablation: Ablation, typed: RequestArguments, *, data: str | None, runs: Path, say: Callable[[str], None],
    compile: bool | None = None, graph: bool | None = None, trains: bool = False, is_sweep: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Request:  # fmt: skip
    """Check all arguments, then read the images and time a few steps.

    Nothing is downloaded, read or written before all words, recipes and budgets are checked.

    `data`: source of the images; None for the one of the scale, else CIFAR-10.
    `say`: called with one line at a time, about what takes a while and what was measured.
    `is_sweep`: the plan represents similar trials, so it is timed even if it is done.
    `trains`: cells are to be trained, so the workers' server loads the modules for training, not only for timing.
    `prepare`: called after the checks, before the images are read.

    Raises:
        UsageError: a word, recipe, network, device or data source is invalid; the first such error.
    """
    check_request(ablation, typed)
    source = _source(typed, data)
    prepare()
    each = typed.cells_per_gpu
    with engine.warm_up(trains=trains) as settle:
        from cifar_lab.execution.device import find_device, is_there, places
        from cifar_lab.execution.estimate import TrainingSpeed, estimate, measure, share
        from cifar_lab.execution.settings import choose_execution, choose_on_cluster, usable_cores

        usable = places(find_device(typed.device)) if typed.nodes is None else ()
        _spare_what_is_loaded()
        choose = choose_execution if typed.nodes is None else partial(choose_on_cluster, typed.nodes)
        chosen_how = partial(choose, typed.device, typed.workers, compile=bool(compile), graph=graph)
        chosen_how(1)  # rejects what no device here supports
        plan = _planned(ablation, typed, source, runs, say)
        execution, count = chosen_how(len(plan.cells), cells_per_gpu=each or 1)
        is_timed = typed.nodes is None or is_there(execution.device)
        settle(is_timed and (is_sweep or bool(plan.to_train(retry_failed=True))))
        if not is_timed:
            say(NOT_TIMED.format(device=execution.device, count=many(each or 1, "cell")))
            return Request(plan, execution, count, TrainingSpeed(), compile, usable, each or 1)
        for line in _warn_of_emulation(plan, usable[0] if usable else execution.device):
            say(line)
        pace = measure(plan, execution, say, place=usable[0] if usable else "", done=is_sweep)
        if each is None and typed.workers == "auto" and pace.rates and execution.device == "cuda":
            images = plan.dataset.train_images.nbytes + plan.dataset.test_images.nbytes
            each, why = share(pace, usable_cores() // max(1, len(usable)), images)
            say(why)
            execution, count = chosen_how(len(plan.cells), cells_per_gpu=each)
    plan = replace(plan, estimates=estimate(plan, pace, done=is_sweep))
    return Request(plan, execution, count, pace, compile, usable, each or 1)


def resolve_plan(
    ablation: Ablation, typed: RequestArguments, *, data: str | None, runs: Path, say: Callable[[str], None]
) -> Plan:
    """Check all arguments and read the images, as `resolve_request` does, but choose no device and time nothing.

    Raises:
        UsageError: a word, recipe, network or data source is invalid; the first such error.
    """
    check_request(ablation, typed)
    return _planned(ablation, typed, _source(typed, data), runs, say)


def _planned(ablation: Ablation, typed: RequestArguments, source: str, runs: Path, say: Callable[[str], None]) -> Plan:
    from cifar_lab.execution.plan import make_plan

    source, dataset = read_data(source, say)
    return make_plan(
        ablation, scale=typed.scale, source=source, dataset=dataset, runs=runs, overrides=typed.overrides,
        variants=typed.variants, seeds=typed.seeds, max_params=typed.max_params,
    )  # fmt: skip


def check_request(ablation: Ablation, typed: RequestArguments) -> None:
    """Check everything that needs no images or device, and no torch unless the user's own code does.

    Raises:
        UsageError: a word, recipe or network is invalid; the first such error.
    """
    from cifar_lab.execution.device import require_device_name
    from cifar_lab.execution.resolved_recipes import make_recipes, require_effective
    from cifar_lab.execution.settings import parse_workers

    parse_workers(typed.workers)
    require_device_name(typed.device)
    _, recipes = make_recipes(
        ablation, scale=typed.scale, overrides=typed.overrides, variants=typed.variants, max_params=typed.max_params
    )
    require_effective(typed.overrides, recipes.values())
    extension.warn_of_hidden(name for recipe in recipes.values() for name in recipe.built_in_names())
    if any(any(recipe.extensions()) for recipe in recipes.values()):
        from cifar_lab.train.own_code import require_own_code

        require_own_code(recipes.values())


def _source(typed: RequestArguments, data: str | None) -> str:
    """Return the source of images that is asked for.

    Raises:
        DataError: a path that is not there, before imports that take seconds.
    """
    source = data if data is not None else typed.scale.data or "cifar10"
    require_source(source)
    return source


def _warn_of_emulation(plan: Plan, device: str) -> list[str]:
    """Return one line for each precision of unfinished cells that `device` has no units for."""
    import torch

    from cifar_lab.train.precision import is_emulated

    wanted = dict.fromkeys(cell.recipe.train.precision for cell in plan.to_train(retry_failed=True))
    emulated = [each for each in wanted if each != "auto" and is_emulated(each, torch.device(device))]
    return [EMULATED[torch.device(device).type].format(each) for each in emulated]


@cache
def _spare_what_is_loaded() -> None:
    """Exclude the objects of loaded modules from garbage collection, which speeds up planning a thousand cells.

    Called once per process: a later freeze would keep the garbage of the study before.
    """
    gc.freeze()


def read_data(source: str, say: Callable[[str], None]) -> tuple[str, Dataset]:
    """Return the source, its path made absolute, and its images.

    Raises:
        DataError: the source cannot be read as square images in classes.
    """
    if source in NAMES:
        extension.warn_of_hidden([("datasets", source)])
    dataset = load(source, say=say)
    return absolute(source), dataset


def remaining_seconds(plan: Plan, workers: int, *, retry_failed: bool = False) -> float:
    """Seconds until the last cell is done, if every worker is busy until then."""
    cells = plan.to_train(retry_failed=retry_failed)
    return sum(plan.estimates.get(cell.fingerprint, 0.0) for cell in cells) / min(workers, max(1, len(cells)))


def plan_in_words(plan: Plan, workers: int, *, retry_failed: bool, option: str = "--retry-failed") -> str:
    """Return `10 cells to train, 2 done already, about 6 min`, with the cells that are left alone.

    `option`: argument with which failed cells are trained again.
    """
    cells, done = plan.to_train(retry_failed=retry_failed), sum(cell.is_done for cell in plan.cells)
    words = [f"{many(len(cells), 'cell')} to train" if cells else "no cell to train"]
    words += [f"{done} done already"] if done else []
    states = [cell.state for cell in plan.cells]
    if not retry_failed and (failed := states.count("failed")):
        words.append(f"{failed} failed before ({option} trains them again)")
    words += [f"{damaged} damaged"] if (damaged := states.count("damaged")) else []
    if cells and plan.estimates:
        words.append(f"about {duration(remaining_seconds(plan, workers, retry_failed=retry_failed))}")
    return ", ".join(words)

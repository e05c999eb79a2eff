"""From what was typed to a plan: the steps that `plan`, `run-ablation` and `train` share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cifar_lab import registry, scale
from cifar_lab.ablation import Ablation
from cifar_lab.cli.console import say
from cifar_lab.errors import UsageError
from cifar_lab.overrides import parse_overrides

if TYPE_CHECKING:
    from cifar_lab.data.dataset import Dataset
    from cifar_lab.run.estimate import Pace
    from cifar_lab.run.execution import Execution
    from cifar_lab.run.plan import Plan


class Request(NamedTuple):
    """A plan with its estimates, and how it would be executed."""

    plan: Plan
    execution: Execution
    workers: int
    pace: Pace
    """Measured here, for estimates of other plans."""
    compile: bool | None = None
    """As typed; none: it is to be decided."""
    places: tuple[str, ...] = ()
    """GPUs that cells may be trained on, `cuda:0`; none on other devices."""
    cells_per_gpu: int = 1
    """As typed, or as measured on CUDA."""

    @property
    def seconds(self) -> float:
        """Estimate for all workers together."""
        return total(self.plan, self.workers)


def find(name: str, folders: list[Path] | None) -> Ablation:
    """The ablation of that name, from the built-in folder or the user's own; broken files are reported."""
    found = registry.discover(*(folders or []))
    for broken in found.broken():
        if broken.name != name:
            say(f"warning: {broken.reason}")
    return found.find(name)


def resolve(
    ablation: Ablation, *, scale_name: str, data: str | None, runs: Path, overrides: list[str] | None,
    variants: str | None, seeds: str | None, max_params: str, device: str, workers: str, compile: bool | None = None,
    graph: bool | None = None, cells_per_gpu: str = "auto", trains: bool = False,
    is_sweep: bool = False,
) -> Request:  # fmt: skip
    """Check everything that was typed, cheap checks first, then read the images and time a few steps.

    `is_sweep`: the plan stands for trials that are like it, so it is timed even where it is done.
    `trains`: cells are to be trained, so the workers' server starts to load torch while this process does.
    """
    chosen = scale.find(scale_name)
    diff = parse_overrides(overrides or [])
    names = [name.strip() for name in variants.split(",")] if variants is not None else None
    for name in names if names is not None else [variant.name for variant in ablation.variants]:
        ablation.recipe(name).override(diff)
    limit, each = parse_count(max_params), _parse_cells_per_gpu(cells_per_gpu)

    with _workers(trains) as settle:
        import torch

        from cifar_lab.run.device import find_device, places
        from cifar_lab.run.estimate import estimate, measure, share
        from cifar_lab.run.execution import choose, usable_cores
        from cifar_lab.run.out_of_memory import advice, is_out_of_memory
        from cifar_lab.run.plan import make_plan, parse_seeds

        _spare_what_is_loaded()
        wanted = parse_seeds(seeds) if seeds is not None else None
        source, dataset = read_data(data if data is not None else chosen.data or "cifar10")
        plan = make_plan(
            ablation, scale=chosen, source=source, dataset=dataset, runs=runs, overrides=diff, variants=names,
            seeds=wanted, max_params=limit,
        )  # fmt: skip
        chosen_how = partial(choose, device, workers, len(plan.cells), compile=bool(compile), graph=graph)
        execution, count = chosen_how(cells_per_gpu=each or 1)
        usable = places(find_device(device))
        settle(bool(plan.to_train(retry_failed=True)))
        try:
            pace = measure(plan, execution, say, place=usable[0] if usable else "", done=is_sweep)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            line = advice(error, plan.cells[0].recipe, torch.device((*usable, execution.device)[0]), sharing=1)
            raise UsageError(f"a few steps were to be timed, but: {line}") from error
        if each is None and workers == "auto" and pace.rates and execution.device == "cuda":
            images = dataset.train_images.nbytes + dataset.test_images.nbytes
            each, why = share(pace, usable_cores() // max(1, len(usable)), images)
            say(why)
            execution, count = chosen_how(cells_per_gpu=each)
    plan = replace(plan, estimates=estimate(plan, pace, done=is_sweep))
    return Request(plan, execution, count, pace, compile, usable, each or 1)


def _parse_cells_per_gpu(text: str) -> int | None:
    """`auto`, which is to be measured and None here, or a number from 1 up.

    Raises:
        UsageError: something else.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise UsageError(f"--cells-per-gpu takes 'auto' or a number from 1 up, got '{text}'")
    return int(text)


@cache
def _spare_what_is_loaded() -> None:
    """No collection of garbage walks through torch's objects any more, as one would that plans a thousand cells.

    Once a process: a later freeze would keep the garbage of the study before.
    """
    gc.freeze()


@contextmanager
def _workers(trains: bool) -> Iterator[Callable[[bool], None]]:
    """Where it `trains`, the workers' server loads torch while this process does.

    What is yielded waits for it, as steps that are timed beside it would seem slow, or ends it if it is not needed.
    """
    from cifar_lab.run import fork_server

    def settle(is_needed: bool) -> None:
        if trains:
            (fork_server.wait if is_needed else fork_server.stop)()

    if trains:
        fork_server.start()
    try:
        yield settle
    except BaseException:
        fork_server.stop()
        raise


def read_data(source: str) -> tuple[str, Dataset]:
    """Return the source, its path made absolute, and its images."""
    from cifar_lab.data import absolute, load

    dataset = load(source, say=say)
    return absolute(source), dataset


def total(plan: Plan, workers: int) -> float:
    """Seconds until the last cell is done, if every worker is busy until then."""
    cells = plan.to_train()
    return sum(plan.estimates.get(cell.fingerprint, 0.0) for cell in cells) / min(workers, max(1, len(cells)))


def parse_count(text: str) -> int:
    """`5M`, `800k` or `4900000`.

    Raises:
        UsageError: something else, or nothing above zero.
    """
    units = {"k": 1_000, "m": 1_000_000}
    number, unit = (text[:-1], units[text[-1].lower()]) if text[-1:].lower() in units else (text, 1)
    try:
        count = round(float(number.replace(",", "").replace("_", "")) * unit)
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise UsageError(f"--max-params reads 5M, 800k or 4900000, got '{text}'")
    return count

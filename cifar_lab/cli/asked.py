"""Convert typed arguments to a plan: the steps shared by `plan`, `run-ablation` and `train`."""

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
from cifar_lab.overrides import parse_number, parse_overrides

if TYPE_CHECKING:
    from cifar_lab.data.dataset import Dataset
    from cifar_lab.run.estimate import Pace
    from cifar_lab.run.execution import Execution
    from cifar_lab.run.plan import Plan


class Request(NamedTuple):
    """A plan with its estimates and its execution settings."""

    plan: Plan
    execution: Execution
    workers: int
    pace: Pace
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
        return total(self.plan, self.workers)


def find(name: str, folders: list[Path] | None) -> Ablation:
    """Return the ablation of this name, built-in or from a user folder; warn about broken files."""
    found = registry.discover(*(folders or []))
    for broken in found.broken():
        if broken.name != name:
            say(f"warning: {broken.reason}")
    return found.find(name)


def resolve(
    ablation: Ablation, *, scale_name: str, data: str | None, runs: Path, overrides: list[str] | None,
    variants: str | None, seeds: str | None, max_params: str, device: str, workers: str, compile: bool | None = None,
    graph: bool | None = None, cells_per_gpu: str = "auto", trains: bool = False, is_sweep: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Request:  # fmt: skip
    """Check all arguments, then read the images and time a few steps.

    Nothing is downloaded, read or written before all words, recipes and budgets are checked.

    `is_sweep`: the plan represents similar trials, so it is timed even if it is done.
    `trains`: cells are to be trained, so the workers' server loads the modules for training, not only for timing.
    `prepare`: called after the checks, before the images are read.
    """
    typed = check(
        ablation, scale_name=scale_name, overrides=overrides, variants=variants, seeds=seeds, max_params=max_params,
        device=device, workers=workers, cells_per_gpu=cells_per_gpu,
    )  # fmt: skip
    prepare()
    each = typed.cells_per_gpu
    with _workers(trains) as settle:
        from cifar_lab.run.device import find_device, places
        from cifar_lab.run.estimate import estimate, measure, share
        from cifar_lab.run.execution import choose, usable_cores
        from cifar_lab.run.plan import make_plan

        usable = places(find_device(device))
        _spare_what_is_loaded()
        chosen_how = partial(choose, device, workers, compile=bool(compile), graph=graph)
        chosen_how(1)  # rejects what no device here supports
        source, dataset = read_data(data if data is not None else typed.scale.data or "cifar10")
        plan = make_plan(
            ablation, scale=typed.scale, source=source, dataset=dataset, runs=runs, overrides=typed.overrides,
            variants=typed.variants, seeds=typed.seeds, max_params=typed.max_params,
        )  # fmt: skip
        execution, count = chosen_how(len(plan.cells), cells_per_gpu=each or 1)
        settle(is_sweep or bool(plan.to_train(retry_failed=True)))
        pace = measure(plan, execution, say, place=usable[0] if usable else "", done=is_sweep)
        if each is None and workers == "auto" and pace.rates and execution.device == "cuda":
            images = dataset.train_images.nbytes + dataset.test_images.nbytes
            each, why = share(pace, usable_cores() // max(1, len(usable)), images)
            say(why)
            execution, count = chosen_how(len(plan.cells), cells_per_gpu=each)
    plan = replace(plan, estimates=estimate(plan, pace, done=is_sweep))
    return Request(plan, execution, count, pace, compile, usable, each or 1)


class Typed(NamedTuple):
    """Checked and parsed arguments of a command line."""

    scale: scale.Scale
    overrides: dict[str, object]
    variants: list[str] | None
    seeds: tuple[int, ...] | None
    max_params: int
    cells_per_gpu: int | None


def check(
    ablation: Ablation, *, scale_name: str, overrides: list[str] | None, variants: str | None, seeds: str | None,
    max_params: str, device: str, workers: str, cells_per_gpu: str,
) -> Typed:  # fmt: skip
    """Check everything that needs no torch, images or device.

    Raises:
        UsageError: a word, recipe or network is invalid; the first such error.
    """
    from cifar_lab.run.device import require_name
    from cifar_lab.run.execution import parse_workers
    from cifar_lab.run.recipes import make_recipes, parse_seeds

    typed = Typed(
        scale=scale.find(scale_name),
        overrides=parse_overrides(overrides or []),
        variants=[name.strip() for name in variants.split(",")] if variants is not None else None,
        seeds=parse_seeds(seeds) if seeds is not None else None,
        max_params=parse_count(max_params),
        cells_per_gpu=_parse_cells_per_gpu(cells_per_gpu),
    )
    parse_workers(workers)
    require_name(device)
    make_recipes(
        ablation, scale=typed.scale, overrides=typed.overrides, variants=typed.variants, max_params=typed.max_params
    )
    return typed


def _parse_cells_per_gpu(text: str) -> int | None:
    """Parse a number of at least 1, or `auto`, for which None is returned.

    Raises:
        UsageError: the text is neither.
    """
    if text == "auto":
        return None
    if (count := parse_number(text, least=1)) is None:
        raise UsageError(f"--cells-per-gpu takes 'auto' or a number from 1 up, got '{text}'")
    return count


@cache
def _spare_what_is_loaded() -> None:
    """Exclude the objects of loaded modules from garbage collection, which speeds up planning a thousand cells.

    Called once per process: a later freeze would keep the garbage of the study before.
    """
    gc.freeze()


@contextmanager
def _workers(trains: bool) -> Iterator[Callable[[bool], None]]:
    """Start loading torch in the workers' server in parallel; it times steps, and with `trains` also trains cells.

    Yields a function that waits for the server, since it would slow down timed steps, or ends it if it is not needed.
    """
    from cifar_lab.run import fork_server

    modules = fork_server.PRELOADED if trains else fork_server.WITHOUT_COMPILER

    def settle(is_needed: bool) -> None:
        (partial(fork_server.wait, modules) if is_needed else fork_server.stop)()

    fork_server.start(modules)
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


def total(plan: Plan, workers: int, *, retry_failed: bool = False) -> float:
    """Seconds until the last cell is done, if every worker is busy until then."""
    cells = plan.to_train(retry_failed=retry_failed)
    return sum(plan.estimates.get(cell.fingerprint, 0.0) for cell in cells) / min(workers, max(1, len(cells)))


def parse_count(text: str) -> int:
    """Parse a count such as `5M`, `800k` or `4900000`.

    Raises:
        UsageError: the text has another form, or is not positive.
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

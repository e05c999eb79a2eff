"""Plan and train by the public API: what `cifar-lab plan`, `run-ablation` and `train` do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifar_lab import process_settings
from cifar_lab.ablation.ablation import Ablation, find_baseline, single_recipe
from cifar_lab.api.argument_checks import (
    Folder,
    Say,
    Tracking,
    check_arguments,
    check_source,
    check_tracking,
    listener,
    notification_urls,
    require_ablation,
    require_imported_code,
    require_text,
    resolve_ablation,
    runs_folder,
    warning_of_name,
)
from cifar_lab.api.public_function import public
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.recipe_file import read_recipe
from cifar_lab.errors import OutOfSpace, TimeOver, UsageError
from cifar_lab.models.cost import BUDGET
from cifar_lab.object_store import is_address

if TYPE_CHECKING:
    from cifar_lab.api.results import PlanResult, RunResult
    from cifar_lab.execution.plan import PlannedCell
    from cifar_lab.execution.request import Request, RequestArguments
    from cifar_lab.report.notification import Notification


@public
@process_settings.restored()
def plan(
    ablation: str | Ablation, *, scale: str = "writeup", seeds: Iterable[int] | None = None, data: str | None = None,
    runs: Folder | None = None, overrides: Mapping[str, Any] | None = None, variants: Iterable[str] | None = None,
    workers: int | Literal["auto"] = "auto", device: str = "auto", max_params: int = BUDGET,
    folder: Folder | None = None, say: Say | None = print,
) -> PlanResult:  # fmt: skip
    """Return the cells of an ablation with their states, and an estimate of the remaining time. Nothing is trained.

    The arguments are those of `run`.

    Raises:
        UsageError: an argument, a recipe or the data are not valid; `BudgetError` for a network over the budget.
    """
    from cifar_lab.api.results import PlanResult
    from cifar_lab.execution import request

    typed = check_arguments(scale, seeds, overrides, variants, workers, device, max_params)
    found = request.resolve_request(
        resolve_ablation(ablation, folder, runs), typed, data=check_source(data), runs=runs_folder(runs),
        say=listener(say),
    )  # fmt: skip
    require_imported_code(found)
    return PlanResult(found)


@public
def run(
    ablation: str | Ablation, *, scale: str = "writeup", seeds: Iterable[int] | None = None, data: str | None = None,
    runs: Folder | None = None, overrides: Mapping[str, Any] | None = None, variants: Iterable[str] | None = None,
    workers: int | Literal["auto"] = "auto", device: str = "auto", max_params: int = BUDGET, offline: bool = False,
    retry_failed: bool = False, compile: bool | None = None, graph: bool | None = None,
    log_model: Literal["all", "best", "none"] | None = None, register: str | None = None,
    tags: Mapping[str, str] | None = None, note: str = "", experiment_prefix: str | None = None,
    notify: str | Sequence[str] | None = None, hours: float | None = None, folder: Folder | None = None,
    say: Say | None = print,
) -> RunResult:  # fmt: skip
    """Train the missing cells of an ablation, log them to MLflow, and return the comparison.

    An `Ablation` made here needs a name; it is kept as a file in `runs/ablations`, so that the command line knows it:
    `cifar-lab report NAME --ablations runs/ablations`. Cells that fail are in the result, and raise nothing.

    Args:
        ablation: its name, or an `Ablation`.
        scale: `smoke`, `small` or `writeup`, or a share of its epochs, `small/5`.
        seeds: seeds from 0 up, 1,000 at most; None: those of the ablation.
        data: `cifar10`, `synthetic` or a path; None: `synthetic` at scale `smoke`, else `cifar10`.
        runs: folder of the records; None: `CIFAR_LAB_RUNS`, else `./runs`.
        overrides: recipe fields by dotted path, `{"train.epochs": 30}`; applied after the scale.
        variants: names of variants; None: all.
        workers: worker processes, from 1 up.
        device: `auto`, `cpu`, `cuda`, `mps`, or one GPU, `cuda:1`.
        max_params: budget of trainable parameters, from 1 up.
        offline: upload nothing to MLflow now; `cifar-lab sync` does it later.
        retry_failed: also train the cells that failed before.
        compile: use torch.compile; None: where that was measured to pay.
        graph: replay steps as a CUDA graph; None: on CUDA.
        log_model: networks that MLflow gets as models: `all` finished cells, the `best` seed of each variant by val,
            or `none`; None: `best` with `register`, else `none`.
        register: name under which the best of these models is registered, or NAME@ALIAS; None: none.
        tags: tags of the runs in MLflow, `{"team": "vision"}`.
        note: text above the table in the invocation's run in MLflow, Markdown.
        experiment_prefix: name the experiments in MLflow PREFIX/ABLATION; None: `MLFLOW_EXPERIMENT_NAME`, if set.
        notify: address, or several, that get one message when the call is over, by apprise; None: those of
            `CIFAR_LAB_NOTIFY`, an empty list: none.
        hours: save and stop after that long, from 0.01 up; `interrupted` of the result says so.
        folder: folder with ablations of your own; None: those of `CIFAR_LAB_ABLATIONS`.
        say: called with one line at a time on progress; None: silence.

    Raises:
        UsageError: an argument, a recipe or the data are not valid; nothing has been trained.
        TrackingError: the runs folder or the MLflow store cannot be used.
        OutOfSpace: the disk is full; the same call goes on from there.
        KeyboardInterrupt: Ctrl-C, once the state is saved; the same call goes on from there.
    """
    given = dict(locals())
    from cifar_lab.store.ablation_file import folder_of, keep, require_ablation_name

    place, tell = runs_folder(runs), listener(say)
    require_ablation(ablation)
    require_text(experiment_prefix=experiment_prefix)
    name = ablation.name if isinstance(ablation, Ablation) else ablation

    def train(message: Notification) -> RunResult:
        tracking = check_tracking(log_model, register, tags, note, hours, offline=offline)
        typed = check_arguments(scale, seeds, overrides, variants, workers, device, max_params)
        chosen = resolve_ablation(ablation, folder, runs)
        require_ablation_name(chosen.name)
        if isinstance(ablation, Ablation) and (line := warning_of_name(ablation)) is not None:
            tell(line)
        given.update(ablation=chosen.name, variants=typed.variants, **_as_typed(typed))

        def keep_ablation() -> None:
            if isinstance(ablation, Ablation):
                keep(ablation, place, by="`cifar_lab.run`")
                given["folder"] = folder_of(place if runs is None or is_address(str(runs)) else Path(runs))

        return _train(
            chosen, typed, tracking, message, call=(run, given), data=check_source(data), place=place, tell=tell,
            offline=offline, retry_failed=retry_failed, compile=compile, graph=graph, prepare=keep_ablation,
        )  # fmt: skip

    return _notifying(train, notify, f"run {name}", experiment_prefix, tell)


@public
def train_recipe(
    recipe: Folder | Recipe | None = None, *, parent: str | None = None, scale: str | None = None,
    seeds: Iterable[int] | None = None, data: str | None = None, runs: Folder | None = None,
    overrides: Mapping[str, Any] | None = None, device: str = "auto", max_params: int = BUDGET, offline: bool = False,
    compile: bool | None = None, graph: bool | None = None, log_model: Literal["all", "best", "none"] | None = None,
    register: str | None = None, tags: Mapping[str, str] | None = None, note: str = "",
    experiment_prefix: str | None = None, notify: str | Sequence[str] | None = None, hours: float | None = None,
    say: Say | None = print,
) -> RunResult:  # fmt: skip
    """Train one recipe, a baseline's, your own or that of a finished cell; log it to MLflow, and return the result.

    Args:
        recipe: `efficient` (None), `resnet18`, `fast`, a `Recipe`, or the path of one's JSON file, `best.json`, as
            `sweep-best -o` writes it.
        parent: fingerprint (first digits) of a finished cell, whose recipe and last weights are gone on with, instead
            of `recipe` and `scale`; `data` and seed are its own unless given.
        scale: as in `run`; None: `writeup`.
        seeds: seeds from 0 up; None: 0.
        data, runs, overrides, device, max_params, offline, compile, graph: as in `run`.
        log_model, register, tags, note, experiment_prefix, notify, hours, say: as in `run`.

    Raises:
        UsageError: an argument, a recipe or the data are not valid; nothing has been trained.
        TrackingError: there is no such parent, or the runs folder or the MLflow store cannot be used.
        OutOfSpace: the disk is full; the same call goes on from there.
        KeyboardInterrupt: Ctrl-C, once the state is saved; the same call goes on from there.
    """
    given = dict(locals())
    place, tell = runs_folder(runs), listener(say)
    require_text(parent=parent, experiment_prefix=experiment_prefix)

    def train(message: Notification) -> RunResult:
        tracking = check_tracking(log_model, register, tags, note, hours, offline=offline)
        typed = check_arguments(scale or "writeup", seeds, overrides, None, 1, device, max_params)
        name, start, source, seed = _start(recipe, parent, scale, place, typed.overrides)
        given.update(_as_typed(typed))
        return _train(
            single_recipe(name, start, "`cifar_lab.train_recipe`"), typed._replace(seeds=typed.seeds or (seed,)),
            tracking, message, call=(train_recipe, given), data=check_source(data) or source, place=place, tell=tell,
            offline=offline, retry_failed=True, compile=compile, graph=graph,
        )  # fmt: skip

    return _notifying(train, notify, "train_recipe", experiment_prefix, tell)


def _as_typed(typed: RequestArguments) -> dict[str, object]:
    """Return the arguments that may have been numbers of numpy or a device of torch, as plain values."""
    return {
        "seeds": typed.seeds, "overrides": dict(typed.overrides), "device": typed.device,
        "max_params": typed.max_params,
    }  # fmt: skip


def _start(
    recipe: Folder | Recipe | None, parent: str | None, scale: str | None, runs: Path, overrides: Mapping[str, Any]
) -> tuple[str, Recipe, str | None, int]:
    """Return the name of what is trained, its recipe, source of data (None: the default) and seed.

    Raises:
        UsageError: there is no such baseline or file, or a parent is given together with a recipe or a scale.
        TrackingError: there is no such parent.
    """
    if parent is None:
        if isinstance(recipe, Recipe):
            return "recipe", recipe, None, 0
        name = recipe if recipe is not None else "efficient"
        if isinstance(name, os.PathLike) or (isinstance(name, str) and name.lower().endswith(".json")):
            return "recipe", read_recipe(Path(name)), None, 0
        if not isinstance(name, str):
            made = "; `overrides` changes fields of one" if isinstance(name, Mapping) else ""
            wanted = "the name of a baseline, the path of a JSON file or a Recipe"
            raise UsageError(f"recipe is {wanted}, got {type(name).__name__}{made}")
        return name, find_baseline(name), None, 0
    if recipe is not None or scale is not None:
        clash = "recipe" if recipe is not None else "scale"
        raise UsageError(f"{clash} does not go with parent, which goes on with the cell's own recipe and size")
    from cifar_lab.execution.warm_start import further_training

    begun = further_training(runs, parent, overrides, option="parent")
    return begun.name, begun.recipe, begun.source, begun.seed


def _notifying(
    train: Callable[[Notification], RunResult], notify: str | Sequence[str] | None, subject: str, prefix: str | None,
    tell: Say,
) -> RunResult:  # fmt: skip
    """Train with a prefix of experiments' names, and send the message that is asked for when it is over."""
    from cifar_lab.mlflow_sync.user_fields import naming_experiments
    from cifar_lab.report.notification import notifying

    with notifying(tell) as message, process_settings.restored():
        if urls := notification_urls(notify):
            message.request(urls, subject, "notify")
        with naming_experiments(prefix, "experiment_prefix"):
            return train(message)


def _train(
    ablation: Ablation, typed: RequestArguments, tracking: Tracking, message: Notification, *,
    call: tuple[Callable[..., object], dict[str, Any]], data: str | None, place: Path, tell: Say, offline: bool,
    retry_failed: bool, compile: bool | None, graph: bool | None, prepare: Callable[[], None] = lambda: None,
) -> RunResult:  # fmt: skip
    """Train the missing cells of an ablation, and add the outcome to the message.

    `call`: the public function and its arguments, for the record. `prepare`: called once everything is checked.
    """
    from cifar_lab.execution import request
    from cifar_lab.mlflow_sync.uri import require_places

    def prepare_places() -> None:
        require_places(place, offline=offline)
        prepare()

    found = request.resolve_request(
        ablation, typed, data=data, runs=place, say=tell, compile=compile, graph=graph, trains=True,
        prepare=prepare_places,
    )  # fmt: skip
    require_imported_code(found)
    from cifar_lab.api.results import RunResult, recorded_call
    from cifar_lab.execution.complete import complete
    from cifar_lab.execution.progress_lines import ProgressLines  # loads torch, as the workers' server has begun to do
    from cifar_lab.mlflow_sync.upload import open_ablation_upload
    from cifar_lab.report.summary import comparison_headline

    def watch(found: Request, cells: list[PlannedCell]) -> AbstractContextManager[ProgressLines]:
        tell(request.plan_in_words(found.plan, found.workers, retry_failed=retry_failed, option="retry_failed=True"))
        return nullcontext(ProgressLines({cell.fingerprint: cell.name for cell in cells}, tell))

    done = complete(
        found, place, command=recorded_call(*call, labels=tracking.labels, note=tracking.note), watch=watch,
        upload=open_ablation_upload(place, ablation, tell, offline=offline, models=tracking.models), say=tell,
        retry_failed=retry_failed, until=tracking.until,
    )  # fmt: skip
    interrupted, result = done.report.interrupted, RunResult(done, place)
    message.add_outcome(
        ablation.name, result.counts(), comparison_headline(done.comparison), interruption=result.interrupted
    )
    message.code = int(bool(result.undone))
    if isinstance(interrupted, OutOfSpace):
        raise interrupted
    if interrupted is not None and not isinstance(interrupted, TimeOver):  # `except Exception` is not to swallow Ctrl-C
        raise KeyboardInterrupt(f"{interrupted}; the same call goes on from there") from None
    return result

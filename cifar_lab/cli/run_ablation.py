"""`run-ablation` and `train`: train missing cells."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import BASELINES, Ablation, Variant, find_baseline
from cifar_lab.cli import arguments, completion, console, describe, slurm, tracking_options
from cifar_lab.cli import options as o
from cifar_lab.cli.arguments import RecipeFile, read_recipe
from cifar_lab.cli.compare import print_comparison
from cifar_lab.cli.confirm import confirm, confirm_long
from cifar_lab.cli.engine import LOCAL, SLURM, EngineName, RayAddress, StayingEngineName, engine_nodes, require_engine
from cifar_lab.cli.notify import Notify, add_line, add_outcome, request_notification
from cifar_lab.cli.typed_command import recorded_command
from cifar_lab.cli.until_decided import (
    DropRule,
    MaxSeeds,
    UntilDecided,
    confirm_drop,
    most_seeds,
    run_looks,
    with_looks,
)
from cifar_lab.cli.wording import one_line
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError
from cifar_lab.execution import request
from cifar_lab.execution.request import RequestArguments
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.execution.plan import Plan, PlannedCell
    from cifar_lab.execution.runner import RunReport
    from cifar_lab.execution.warm_start import WarmStart
    from cifar_lab.mlflow_sync.logged_model import ModelLogging
    from cifar_lab.results.comparison import Comparison
    from cifar_lab.store.invocation import StoppingRule

Print = Callable[["Comparison"], None]
EVERY = "all"
"""Name that stands for all ablations."""
Redo = Annotated[
    list[str] | None,
    typer.Option(
        "--redo",
        metavar="FINGERPRINT",
        autocompletion=completion.fingerprints,
        help="Set a cell's record aside and train it anew; repeatable.",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FINGERPRINT",
        autocompletion=completion.fingerprints,
        help="Start from the last weights of a finished cell, with its recipe.",
    ),
]


class CommandOutcome(NamedTuple):
    """Outcome of a run: its exit code, and the final plan as JSON; None if it could not begin."""

    code: int
    tree: dict[str, Any] | None
    interrupted: str = ""
    """Reason for an early end, by the user or by a full disk; empty otherwise."""
    sentence: str = ""
    """Verdicts, or accuracies where nothing is compared, in one sentence."""


def run_ablation(
    name: o.AblationName, overrides: o.Overrides = None, scale: o.ScaleName = "writeup", data: o.Data = None,
    variants: o.Variants = None, seeds: o.Seeds = None, device: o.Device = "auto", workers: o.Workers = "auto",
    compile: o.Compile = None, graph: o.Graph = None, cells_per_gpu: o.CellsPerGpu = "auto",
    max_params: o.MaxParams = "5M",
    until_decided: UntilDecided = False, max_seeds: MaxSeeds = None, drop_rule: DropRule = False,
    retry_failed: o.RetryFailed = False, redo: Redo = None, stall_after: o.StallAfter = None,
    hours: o.Hours = None, engine: EngineName = LOCAL, ray_address: RayAddress = None,
    partition: slurm.Partition = None, account: slurm.Account = None, gres: slurm.Gres = None,
    time: slurm.TimeLimit = None, cells_per_task: slurm.CellsPerTask = None, max_parallel: slurm.MaxParallel = None,
    sbatch: slurm.Sbatch = None, offline: o.Offline = False, log_model: tracking_options.LogModel = None,
    register: tracking_options.Register = None, tag: tracking_options.Tag = None, note: tracking_options.Note = None,
    experiment_prefix: tracking_options.ExperimentPrefix = None, notify: Notify = None, runs: o.Runs = o.DEFAULT_RUNS,
    ablations: o.Folders = None,
    yes: o.Yes = False, everything: o.Everything = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train the missing cells of an ablation (`all`: of every one), log them to MLflow, and print the comparison."""
    if engine == SLURM:
        slurm.require_no_notification(notify)
    else:
        request_notification(notify, f"run-ablation {name}")
    tracking_options.set_experiment_prefix(experiment_prefix)
    most = most_seeds(until_decided, max_seeds, seeds, drop_rule)
    require_engine(engine, ray_address, can_submit=True)
    cluster = slurm.slurm_options(
        engine, partition=partition, account=account, gres=gres, time=time, cells_per_task=cells_per_task,
        max_parallel=max_parallel, sbatch=sbatch,
    )  # fmt: skip
    if cluster is not None:
        slurm.require_submittable({"--until-decided": until_decided, "--drop-rule": drop_rule, "--redo": redo,
                                   "--hours": hours, "--log-model": log_model, "--register": register})  # fmt: skip
    every = registry.discover(*(ablations or [])) if name == EVERY else None
    chosen = list(every) if every is not None else [arguments.find_ablation(name, ablations, runs)]
    typed = arguments.parse(
        scale_name=scale, overrides=overrides, variants=variants, seeds=seeds,
        max_params=max_params, device=device, workers=workers, cells_per_gpu=cells_per_gpu,
    )  # fmt: skip
    typed = with_looks(typed, most)
    options = RunOptions(
        typed=typed, data=data, runs=runs.resolve(), compile=compile, graph=graph, most=most, drop_rule=drop_rule,
        retry_failed=retry_failed, redo=tuple(redo or []), patience=stall_after, until=arguments.end_of_time(hours),
        offline=offline, yes=yes, labels=tracking_options.parse_labels(tag or ()), note=note or "",
        models=tracking_options.model_logging(log_model, register, offline=offline),
        print_table=None if as_json else partial(print_comparison, everything=everything),
        words=option_words(variants, seeds, device, workers, cells_per_gpu, runs, ablations), engine=engine,
        ray_address=ray_address,
    )  # fmt: skip

    def run_each(ablation: Ablation) -> CommandOutcome:
        if cluster is not None:
            return slurm.submit_ablation(ablation, options, cluster, ablations)
        return run_one(ablation, options)

    if every is None:
        return print_outcome(run_each(chosen[0]), as_json)
    for broken in every.broken():
        console.say(f"warning: {broken.reason}")
    _require_for_some(chosen, typed)
    outcomes: list[CommandOutcome] = []
    with engine_nodes(engine, ray_address):  # one for all of them
        for each in chosen:
            outcomes.append(_said(each, run_each))
            if outcomes[-1].interrupted:
                break
    return _print_every(outcomes, as_json) if cluster is None else _print_submitted(outcomes, as_json)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a command that trains an ablation."""

    typed: RequestArguments
    data: str | None
    """Source of the images; None for the one of the scale, else CIFAR-10."""
    runs: Path
    """Absolute path of the runs folder."""
    compile: bool | None = None
    graph: bool | None = None
    most: int | None = None
    """Maximum number of seeds of a stopping rule; None for a fixed number."""
    drop_rule: bool = False
    retry_failed: bool = False
    redo: tuple[str, ...] = ()
    """Beginnings of the fingerprints of cells to be trained anew."""
    patience: float | None = None
    """Minimum seconds without progress before a worker counts as stuck; None: from the environment."""
    until: float = math.inf
    """Time on the monotonic clock at which running cells save and stop."""
    offline: bool = False
    models: ModelLogging | None = None
    """Networks to log as MLflow models; None for none."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Tags of the user for the runs in MLflow."""
    note: str = ""
    """Text of the user for the invocation's run in MLflow."""
    yes: bool = False
    """True if nothing is to be confirmed."""
    print_table: Print | None = None
    data_hash: str | None = None
    """Hash that the images must have; None for any."""
    files: Callable[[], Mapping[str, str]] | None = None
    """Function that returns further artifacts of the run in MLflow, by name; called when its cells have ended."""
    words: tuple[str, ...] = ()
    """Options as typed, for the suggestion of a quicker command."""
    engine: str = LOCAL
    ray_address: str | None = None
    """Address of a Ray cluster; None: `cifar_lab.execution.ray_cluster.connected` looks for one."""


def option_words(
    variants: str | None, seeds: str | None, device: str, workers: str, cells_per_gpu: str, runs: Path,
    ablations: list[Path] | None,
) -> tuple[str, ...]:  # fmt: skip
    """Return the options that differ from their defaults as the words of a command line."""
    typed = {"--variants": variants, "--seeds": seeds, "--device": device, "--workers": workers,
             "--cells-per-gpu": cells_per_gpu, "--runs": runs}  # fmt: skip
    usual = (None, "auto", o.DEFAULT_RUNS)
    words = [word for flag, value in typed.items() if value not in usual for word in (flag, str(value))]
    return (*words, *(word for path in ablations or [] for word in ("--ablations", str(path))))


def run_one(ablation: Ablation, options: RunOptions) -> CommandOutcome:
    """Train the missing cells of one ablation, and print the comparison."""
    outcome = _run_on_engine(ablation, options)
    add_outcome(ablation.name, outcome)
    return outcome


def _run_on_engine(ablation: Ablation, options: RunOptions) -> CommandOutcome:
    """Train the missing cells on the engine of the options, whose cluster is open meanwhile."""
    if options.engine == LOCAL:
        return _run_one(ablation, options)
    request.check_request(ablation, options.typed)  # before a cluster is started
    with engine_nodes(options.engine, options.ray_address) as nodes:
        return _run_one(ablation, replace(options, typed=options.typed._replace(nodes=nodes)))


def _run_one(ablation: Ablation, options: RunOptions) -> CommandOutcome:
    runs, yes = options.runs, options.yes
    resolved = _resolve_writable(ablation, options)
    if options.drop_rule:
        confirm_drop(resolved.plan, runs, yes)
    resolved = _set_aside(resolved, runs, options.redo, yes, as_before=_is_executed_as_before(options))
    confirm_long(resolved, runs, yes, options.words)
    if options.most is None:
        return _run(resolved, options, stopping=_dropped() if options.drop_rule else None)
    looked = replace(options, print_table=None)

    def run_part(part: arguments.Request, rule: StoppingRule) -> CommandOutcome:
        return _run(part, looked, stopping=rule)

    return run_looks(resolved, runs, options.most, run_part, options.print_table, yes)


def _is_executed_as_before(options: RunOptions) -> bool:
    """Tell whether nothing was said on how cells are executed, so that redone ones are executed as they were."""
    typed = options.typed
    return (typed.device, typed.workers, options.compile, options.graph) == ("auto", "auto", None, None)


def _require_for_some(ablations: list[Ablation], typed: RequestArguments) -> None:
    """Check, before any ablation begins, that the arguments are valid for at least one of them.

    Raises:
        UsageError: they are valid for none; the message is that of the first.
    """
    refused: list[UsageError] = []
    for ablation in ablations:
        try:
            request.check_request(ablation, typed)
        except UsageError as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def _said(ablation: Ablation, run_each: Callable[[Ablation], CommandOutcome]) -> CommandOutcome:
    """Run one of many ablations; an error in it is reported, and does not stop the others."""
    console.say(f"== {ablation.name}")
    try:
        return run_each(ablation)
    except UsageError as error:
        console.say(f"cifar-lab: {ablation.name}: {one_line(str(error))}")
        add_line(f"{ablation.name}: {one_line(str(error))}")
        return CommandOutcome(error.exit_code, None)


def print_outcome(outcome: CommandOutcome, as_json: bool) -> int:
    """Print the outcome as JSON if wanted, and return the exit code."""
    if as_json:
        console.print_json(outcome.tree)
    return outcome.code


def _print_every(outcomes: list[CommandOutcome], as_json: bool) -> int:
    trees = [outcome.tree for outcome in outcomes if outcome.tree is not None]
    if as_json:
        console.print_json(trees)
    words = {"trained": "cells trained", "by_another_runner": "by another runner", "reused": "reused"}
    counts = {word: sum(tree[word] for tree in trees) for word in words}
    said = [f"{count} {words[word]}" for word, count in counts.items() if count or word != "by_another_runner"]
    console.say(f"{len(trees)} of {len(outcomes)} ablations: {', '.join(said)}")
    return max((outcome.code for outcome in outcomes), default=0)


def _print_submitted(outcomes: list[CommandOutcome], as_json: bool) -> int:
    trees = [outcome.tree for outcome in outcomes if outcome.tree is not None]
    if as_json:
        console.print_json(trees)
    console.say(f"{many(sum(len(tree['cells']) for tree in trees), 'cell')} submitted")
    return max((outcome.code for outcome in outcomes), default=0)


def train(
    overrides: o.Overrides = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Baseline recipe: efficient (the default), resnet18 or fast.",
            autocompletion=completion.one_of(*BASELINES),
        ),
    ] = None,
    parent: From = None, file: RecipeFile = None,
    scale: Annotated[str | None, typer.Option("--scale", help="Scale: smoke, small or writeup (the default).")] = None,
    data: o.Data = None, seeds: o.Seeds = None, device: o.Device = "auto", compile: o.Compile = None,
    graph: o.Graph = None,
    max_params: o.MaxParams = "5M", stall_after: o.StallAfter = None, hours: o.Hours = None,
    engine: StayingEngineName = LOCAL, ray_address: RayAddress = None,
    offline: o.Offline = False, log_model: tracking_options.LogModel = None, register: tracking_options.Register = None,
    tag: tracking_options.Tag = None, note: tracking_options.Note = None,
    experiment_prefix: tracking_options.ExperimentPrefix = None, notify: Notify = None, runs: o.Runs = o.DEFAULT_RUNS,
    yes: o.Yes = False, everything: o.Everything = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train one recipe: a baseline, a file's, or a finished cell's recipe and weights, with overrides."""
    request_notification(notify, "train")
    require_engine(engine, ray_address)
    tracking_options.set_experiment_prefix(experiment_prefix)
    begun: WarmStart | None = None
    if parent is not None:
        taken = {"--baseline": baseline, "--recipe": file, "--scale": scale}
        if clash := [flag for flag, value in taken.items() if value is not None]:
            raise UsageError(f"{clash[0]} does not go with --from, which goes on with the cell's own recipe and size")
        begun = _further(parent, runs.resolve(), overrides or [])
        name, recipe, data = f"from-{begun.parent[:12]}", begun.recipe, data or begun.source
    elif file is not None:
        if baseline is not None:
            raise UsageError("--baseline does not go with --recipe: the file has the whole recipe")
        name, recipe = "recipe", read_recipe(file)
    else:
        name = baseline or "efficient"
        recipe = find_baseline(name)
    typed = arguments.parse(
        scale_name=scale or "writeup", overrides=overrides, variants=None, seeds=seeds, max_params=max_params,
        device=device, workers="1", cells_per_gpu="auto",
    )  # fmt: skip
    options = RunOptions(
        typed=typed._replace(seeds=typed.seeds or (begun.seed if begun is not None else 0,)), data=data,
        runs=runs.resolve(), compile=compile, graph=graph, retry_failed=True, patience=stall_after,
        until=arguments.end_of_time(hours), offline=offline, labels=tracking_options.parse_labels(tag or ()),
        note=note or "", models=tracking_options.model_logging(log_model, register, offline=offline), yes=yes,
        engine=engine, ray_address=ray_address,
        print_table=None if as_json else partial(print_comparison, everything=everything),
    )  # fmt: skip
    return print_outcome(run_one(_single(name, recipe), options), as_json)


def _single(name: str, recipe: Recipe) -> Ablation:
    return Ablation(
        name="train",
        question="single recipes, trained by hand",
        source="the command line",
        baseline=recipe,
        factors=(),
        variants=(Variant(name=name),),
        control=name,
    )


def _further(prefix: str, runs: Path, overrides: list[str]) -> WarmStart:
    """Return recipe (with the cell's weights), data source and seed for continuing the training of a cell."""
    from cifar_lab.execution.warm_start import further_training

    return further_training(runs, prefix, parse_overrides(overrides))


def _dropped() -> StoppingRule:
    from cifar_lab.store.invocation import DROPPED

    return DROPPED


def _set_aside(
    found: arguments.Request, runs: Path, prefixes: Sequence[str], yes: bool, *, as_before: bool
) -> arguments.Request:  # fmt: skip
    """Set the records of the cells to be redone aside, and return the request with these cells missing.

    `as_before`: execute it as those records were, with as many workers as their threads permit.
    """
    from cifar_lab.execution.rerun import executed_as, find_planned_cell, known_as, set_aside

    cells = [find_planned_cell(found.plan, prefix) for prefix in prefixes]
    if not cells:
        return found
    if as_before:
        execution = executed_as(cells, runs, found.execution)
        threads = found.execution.threads * found.workers
        workers = max(1, min(found.workers, threads // execution.threads))
        found = found._replace(execution=execution, workers=workers, compile=execution.compile)
    named = "; ".join(known_as(cell, found.plan, runs) for cell in cells)
    confirm(
        "Go on?", f"Setting aside what was trained of {named}", yes, "`cifar-lab clean` deletes it for good, later."
    )
    return found._replace(plan=set_aside(found.plan, cells, runs))


def _resolve_writable(ablation: Ablation, options: RunOptions) -> arguments.Request:
    """Resolve the arguments; the output folders are checked after the words and before images are read."""

    def prepare() -> None:
        from cifar_lab.mlflow_sync.uri import require_places

        require_places(options.runs, offline=options.offline)

    resolved = request.resolve_request(
        ablation, options.typed, data=options.data, runs=options.runs, say=console.say, compile=options.compile,
        graph=options.graph, trains=True, prepare=prepare,
    )  # fmt: skip
    dataset = resolved.plan.dataset
    if options.data_hash not in {None, dataset.hash}:
        raise UsageError(
            f"--data {resolved.plan.source}: these are not the images of the search: their sha256 is "
            f"{dataset.hash[:12]}…, not {options.data_hash:.12}…"
        )
    return resolved


def _run(resolved: arguments.Request, options: RunOptions, *, stopping: StoppingRule | None) -> CommandOutcome:
    """Train the missing cells of a request, print the comparison, and report the outcome."""
    from cifar_lab.cli.display import Display
    from cifar_lab.execution.complete import complete
    from cifar_lab.mlflow_sync.upload import open_ablation_upload
    from cifar_lab.report.summary import comparison_headline

    runs, retry_failed = options.runs, options.retry_failed

    def watch(resolved: arguments.Request, cells: list[PlannedCell]) -> Display:
        console.say(describe.plan_in_words(resolved.plan, resolved.workers, retry_failed=retry_failed))
        wanted = {cell.fingerprint: cell.name for cell in cells}
        return Display(wanted, estimates=resolved.plan.estimates, workers=resolved.workers)

    upload = open_ablation_upload(
        runs, resolved.plan.ablation, console.say, offline=options.offline, models=options.models, files=options.files
    )
    command = replace(recorded_command(), labels=dict(options.labels), note=options.note)
    done = complete(
        resolved, runs, command=command, watch=watch, upload=upload, say=console.say,
        retry_failed=retry_failed, stopping=stopping, patience=options.patience, until=options.until,
        engine=options.engine,
    )  # fmt: skip
    report, comparison = done.report, done.comparison
    counts = {"trained": report.trained, "by_another_runner": done.by_another_runner, "reused": report.reused}
    tree = {
        **describe.plan_tree(resolved._replace(plan=done.plan)),
        **counts,
        **describe.result_tree(done.plan, comparison),
    }
    if options.print_table is not None:
        options.print_table(comparison)
    interrupted = str(report.interrupted) if report.interrupted is not None else ""
    code = _conclude(done.plan, report, done.by_another_runner, runs)
    return CommandOutcome(code, tree, interrupted, comparison_headline(comparison))


def _conclude(plan: Plan, report: RunReport, others: int, runs: Path) -> int:
    """Report what was done and what was not; unfinished work makes the exit code 1."""
    undone = [cell for cell in plan.cells if not cell.is_done]
    counts = Counter(cell.state for cell in undone)
    said = [f"{report.trained} trained", *([f"{others} by another runner"] if others else [])]
    said += [f"{report.reused} reused", f"{counts.pop('failed', 0)} failed"]
    console.say(", ".join([*said, *(f"{count} {state}" for state, count in counts.items())]))
    for cell in undone:
        if cell.state == "failed":
            console.say(
                f"{cell.name} failed: see {runs / cell.fingerprint / 'failure.json'}; again with --retry-failed"
            )
        if cell.state == "damaged":
            console.say(f"{cell.name} is damaged: {cell.damage(runs)}")
    if report.interrupted is not None:
        console.say(f"{report.interrupted}; the same command goes on from there")
        return report.interrupted.exit_code or int(any(cell.state in {"failed", "damaged"} for cell in undone))
    return 1 if undone else 0

"""`run-ablation` and `train`: train missing cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import BASELINES, Ablation, find_baseline, single_recipe
from cifar_lab.cli import arguments, completion, console, slurm, tracking_options
from cifar_lab.cli import options as o
from cifar_lab.cli.arguments import RecipeFile
from cifar_lab.cli.compare import print_comparison
from cifar_lab.cli.engine import LOCAL, SLURM, EngineName, RayAddress, StayingEngineName, engine_nodes, require_engine
from cifar_lab.cli.notify import Notify, add_line, request_notification
from cifar_lab.cli.training import CommandOutcome, RunOptions, option_words, print_outcome, run_one
from cifar_lab.cli.until_decided import DropRule, MaxSeeds, UntilDecided, most_seeds, with_looks
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe_file import read_recipe
from cifar_lab.errors import UsageError
from cifar_lab.execution import request
from cifar_lab.execution.request import RequestArguments
from cifar_lab.execution.stop_signals import end_of_time
from cifar_lab.text import many, one_line

if TYPE_CHECKING:
    from cifar_lab.execution.warm_start import WarmStart

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
    tracking_options.name_experiments(experiment_prefix)
    for prefix in redo or []:
        arguments.require_fingerprint(prefix)
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
        retry_failed=retry_failed, redo=tuple(redo or []), patience=stall_after, until=end_of_time(hours),
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
    return _print_every(outcomes, as_json, submitted=cluster is not None)


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


def _print_every(outcomes: list[CommandOutcome], as_json: bool, *, submitted: bool) -> int:
    """Print the outcomes together, and return the largest exit code; `submitted`: they are submissions."""
    trees = [outcome.tree for outcome in outcomes if outcome.tree is not None]
    if as_json:
        console.print_json(trees)
    code = max((outcome.code for outcome in outcomes), default=0)
    if submitted:
        console.say(f"{many(sum(len(tree['cells']) for tree in trees), 'cell')} submitted")
        return code
    words = {"trained": "cells trained", "by_another_runner": "by another runner", "reused": "reused"}
    counts = {word: sum(tree[word] for tree in trees) for word in words}
    said = [f"{count} {words[word]}" for word, count in counts.items() if count or word != "by_another_runner"]
    console.say(f"{len(trees)} of {len(outcomes)} ablations: {', '.join(said)}")
    return code


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
    tracking_options.name_experiments(experiment_prefix)
    begun: WarmStart | None = None
    if parent is not None:
        taken = {"--baseline": baseline, "--recipe": file, "--scale": scale}
        if clash := [flag for flag, value in taken.items() if value is not None]:
            raise UsageError(f"{clash[0]} does not go with --from, which goes on with the cell's own recipe and size")
        from cifar_lab.execution.warm_start import further_training

        begun = further_training(runs.resolve(), parent, parse_overrides(overrides or []))
        name, recipe, data = begun.name, begun.recipe, data or begun.source
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
        until=end_of_time(hours), offline=offline, labels=tracking_options.parse_labels(tag or ()),
        note=note or "", models=tracking_options.model_logging(log_model, register, offline=offline), yes=yes,
        engine=engine, ray_address=ray_address,
        print_table=None if as_json else partial(print_comparison, everything=everything),
    )  # fmt: skip
    return print_outcome(run_one(single_recipe(name, recipe, "the command line"), options), as_json)

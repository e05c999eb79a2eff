"""`run-ablation` and `train`: train missing cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.cli import arguments, completion, console, describe
from cifar_lab.cli import options as o
from cifar_lab.cli.compare import print_comparison
from cifar_lab.cli.confirm import confirm, confirm_long
from cifar_lab.cli.outcome import CommandOutcome
from cifar_lab.cli.recipe_file import RecipeFile, read_recipe
from cifar_lab.cli.until_decided import DropRule, MaxSeeds, UntilDecided, confirm_drop, most_seeds, run_looks
from cifar_lab.cli.wording import one_line
from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST, RESNET18
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError, nearest
from cifar_lab.execution import request

if TYPE_CHECKING:
    from cifar_lab.execution.plan import Plan, PlannedCell
    from cifar_lab.execution.runner import RunReport
    from cifar_lab.results.comparison import Comparison
    from cifar_lab.store.invocation import StoppingRule

Print = Callable[["Comparison"], None]
EVERY = "all"
"""Name that stands for all ablations."""
BASELINES = {"efficient": EFFICIENT_RESNET, "resnet18": RESNET18, "fast": FAST}
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Also train the cells that failed before.")]
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
    retry_failed: RetryFailed = False, redo: Redo = None, stall_after: o.StallAfter = None,
    offline: o.Offline = False, runs: o.Runs = o.DEFAULT_RUNS, ablations: o.Folders = None,
    yes: o.Yes = False, everything: o.Everything = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train the missing cells of an ablation (`all`: of every one), log them to MLflow, and print the comparison."""
    most = most_seeds(until_decided, max_seeds, seeds, drop_rule)
    options: dict[str, Any] = {
        "scale_name": scale, "data": data, "runs": runs.resolve(), "overrides": overrides, "variants": variants,
        "seeds": seeds if most is None else f"0-{max(most, 1) - 1}", "max_params": max_params, "device": device,
        "workers": workers, "compile": compile, "graph": graph, "cells_per_gpu": cells_per_gpu, "offline": offline,
    }  # fmt: skip
    typed = {"--variants": variants, "--seeds": seeds, "--device": device, "--workers": workers,
             "--cells-per-gpu": cells_per_gpu, "--runs": runs}  # fmt: skip
    usual = (None, "auto", o.DEFAULT_RUNS)
    words = [word for flag, value in typed.items() if value not in usual for word in (flag, str(value))]
    words += [word for path in ablations or [] for word in ("--ablations", str(path))]

    def run_one(each: str) -> CommandOutcome:
        found = _resolve_writable(arguments.find_ablation(each, ablations, runs), **options)
        if drop_rule:
            confirm_drop(found.plan, runs.resolve(), yes)
        found = _set_aside(found, runs.resolve(), redo or [], yes, as_before=as_before)
        confirm_long(found, runs.resolve(), yes, words)
        if most is None:
            stopping = _dropped() if drop_rule else None
            return _run(found, runs.resolve(), print_table=print_table, stopping=stopping, **how)

        def run_part(part: arguments.Request, rule: StoppingRule) -> CommandOutcome:
            return _run(part, runs.resolve(), stopping=rule, **how)

        return run_looks(found, runs.resolve(), most, run_part, print_table, yes)

    as_before = (device, workers, compile, graph) == ("auto", "auto", None, None)
    how: dict[str, Any] = {"retry_failed": retry_failed, "offline": offline, "patience": stall_after}
    print_table = None if as_json else partial(print_comparison, everything=everything)
    if name != EVERY:
        return _print(run_one(name), as_json)
    every = registry.discover(*(ablations or []))
    _require_for_some(list(every), options)
    outcomes: list[CommandOutcome] = []
    for each in every.names():
        outcomes.append(_said(run_one, each))
        if outcomes[-1].interrupted:
            break
    return _print_every(outcomes, as_json)


def _require_for_some(ablations: list[Ablation], options: dict[str, Any]) -> None:
    """Check, before any ablation begins, that the options are valid for at least one of them.

    Raises:
        UsageError: they are valid for none; the message is that of the first.
    """
    words = ("scale_name", "overrides", "variants", "seeds", "max_params", "device", "workers", "cells_per_gpu")
    refused: list[UsageError] = []
    for ablation in ablations:
        try:
            arguments.check_arguments(ablation, **{word: options[word] for word in words})
        except UsageError as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def _said(run_one: Callable[[str], CommandOutcome], name: str) -> CommandOutcome:
    """Run one of many ablations; an error in it is reported, and does not stop the others."""
    console.say(f"== {name}")
    try:
        return run_one(name)
    except UsageError as error:
        console.say(f"cifar-lab: {name}: {one_line(str(error))}")
        return CommandOutcome(error.exit_code, None)


def _print(outcome: CommandOutcome, as_json: bool) -> int:
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
    max_params: o.MaxParams = "5M", stall_after: o.StallAfter = None, offline: o.Offline = False,
    runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False, everything: o.Everything = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train one recipe: a baseline, a file's, or a finished cell's recipe and weights, with overrides."""
    if parent is not None:
        taken = {"--baseline": baseline, "--recipe": file, "--scale": scale}
        if clash := [flag for flag, value in taken.items() if value is not None]:
            raise UsageError(f"{clash[0]} does not go with --from, which goes on with the cell's own recipe and size")
        name, recipe, source, seed = _further(parent, runs.resolve(), overrides or [])
        data, seeds = data or source, seeds or seed
    elif file is not None:
        if baseline is not None:
            raise UsageError("--baseline does not go with --recipe: the file has the whole recipe")
        name, recipe = "recipe", read_recipe(file)
    else:
        name = baseline or "efficient"
        if name not in BASELINES:
            raise UsageError(f"no baseline named '{name}'{nearest(name, BASELINES)}")
        recipe = BASELINES[name]
    found = _resolve_writable(
        _single(name, recipe), scale_name=scale or "writeup", data=data, runs=runs.resolve(), overrides=overrides,
        variants=None, seeds=seeds or "0", max_params=max_params, device=device, workers="1", compile=compile,
        graph=graph, offline=offline,
    )  # fmt: skip
    confirm_long(found, runs.resolve(), yes, [])
    outcome = _run(
        found, runs.resolve(), retry_failed=True, offline=offline, patience=stall_after,
        print_table=None if as_json else partial(print_comparison, everything=everything),
    )  # fmt: skip
    return _print(outcome, as_json)


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


def _further(prefix: str, runs: Path, overrides: list[str]) -> tuple[str, Recipe, str, str]:
    """Return name, recipe (with the cell's weights), data source and seed for continuing the training of a cell."""
    from cifar_lab.execution.warm_start import further_training

    found = further_training(runs, prefix, parse_overrides(overrides))
    return f"from-{found.parent[:12]}", found.recipe, found.source, str(found.seed)


def _dropped() -> StoppingRule:
    from cifar_lab.store.invocation import DROPPED

    return DROPPED


def _set_aside(
    found: arguments.Request, runs: Path, prefixes: list[str], yes: bool, *, as_before: bool
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


def _resolve_writable(ablation: Ablation, *, runs: Path, offline: bool, **typed: Any) -> arguments.Request:
    """Resolve the arguments; the output folders are checked after the words and before images are read."""

    def prepare() -> None:
        request.require_places(runs, offline=offline)

    return arguments.resolve_arguments(ablation, runs=runs, trains=True, prepare=prepare, **typed)


def _run(
    found: arguments.Request, runs: Path, *, retry_failed: bool, offline: bool, stopping: StoppingRule | None = None,
    print_table: Print | None = None, patience: float | None = None,
) -> CommandOutcome:  # fmt: skip
    from cifar_lab.cli.display import Display
    from cifar_lab.execution.complete import complete

    def watch(found: arguments.Request, cells: list[PlannedCell]) -> Display:
        console.say(describe.plan_in_words(found.plan, found.workers, retry_failed=retry_failed))
        wanted = {cell.fingerprint: cell.name for cell in cells}
        return Display(wanted, estimates=found.plan.estimates, workers=found.workers)

    done = complete(
        found, runs, command=arguments.command_line(), watch=watch, say=console.say, retry_failed=retry_failed,
        offline=offline, stopping=stopping, patience=patience,
    )  # fmt: skip
    report, comparison = done.report, done.comparison
    counts = {"trained": report.trained, "by_another_runner": done.by_another_runner, "reused": report.reused}
    tree = {
        **describe.plan_tree(found._replace(plan=done.plan)),
        **counts,
        **describe.result_tree(done.plan, comparison),
    }
    if print_table is not None:
        print_table(comparison)
    interrupted = str(report.interrupted) if report.interrupted is not None else ""
    return CommandOutcome(_conclude(done.plan, report, done.by_another_runner, runs), tree, interrupted)


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
        return report.interrupted.exit_code
    return 1 if undone else 0

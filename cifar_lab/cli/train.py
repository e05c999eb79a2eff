"""`run-ablation` and `train`: train what is missing."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.ablation import Ablation, Variant
from cifar_lab.cli import asked, console, show
from cifar_lab.cli import options as o
from cifar_lab.cli.results import print_comparison
from cifar_lab.errors import UsageError, nearest
from cifar_lab.recipe import EFFICIENT_RESNET, RESNET18

if TYPE_CHECKING:
    from cifar_lab.run.plan import Plan
    from cifar_lab.run.runner import Report

ASK_ABOVE = 3600.0
"""Seconds on a CPU above which a run asks first."""
BASELINES = {"efficient": EFFICIENT_RESNET, "resnet18": RESNET18}
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Train the cells that failed before, too.")]


def run_ablation(
    name: o.AblationName, overrides: o.Overrides = None, scale: o.ScaleName = "writeup", data: o.Data = None,
    variants: o.Variants = None, seeds: o.Seeds = None, device: o.Device = "auto", workers: o.Workers = "auto",
    compile: o.Compile = False, max_params: o.MaxParams = "5M", retry_failed: RetryFailed = False,
    offline: o.Offline = False,
    runs: o.Runs = o.DEFAULT_RUNS, ablations: o.Folders = None, yes: o.Yes = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train the missing cells of an ablation, log them to MLflow, and print the comparison."""
    ablation = asked.find(name, ablations)
    found = _resolve_writable(
        ablation, scale_name=scale, data=data, runs=runs.resolve(), overrides=overrides, variants=variants,
        seeds=seeds, max_params=max_params, device=device, workers=workers, compile=compile, offline=offline,
    )  # fmt: skip
    typed = {"--variants": variants, "--seeds": seeds, "--device": device, "--workers": workers, "--runs": runs}
    usual = (None, "auto", o.DEFAULT_RUNS)
    words = [word for flag, value in typed.items() if value not in usual for word in (flag, str(value))]
    words += [word for path in ablations or [] for word in ("--ablations", str(path))]
    _ask(found, runs.resolve(), yes, words)
    return _run(found, runs.resolve(), retry_failed=retry_failed, offline=offline, as_json=as_json)


def train(
    overrides: o.Overrides = None,
    baseline: Annotated[str, typer.Option(help="efficient or resnet18; overrides start from it.")] = "efficient",
    scale: o.ScaleName = "writeup", data: o.Data = None, seeds: o.Seeds = "0", device: o.Device = "auto",
    compile: o.Compile = False, max_params: o.MaxParams = "5M", offline: o.Offline = False,
    runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train one recipe: a baseline with overrides."""
    if baseline not in BASELINES:
        raise UsageError(f"no baseline named '{baseline}'{nearest(baseline, BASELINES)}")
    single = Ablation(
        name="train",
        question="single recipes, trained by hand",
        source="the command line",
        baseline=BASELINES[baseline],
        factors=(),
        variants=(Variant(name=baseline),),
        control=baseline,
    )
    found = _resolve_writable(
        single, scale_name=scale, data=data, runs=runs.resolve(), overrides=overrides, variants=None, seeds=seeds,
        max_params=max_params, device=device, workers="1", compile=compile, offline=offline,
    )  # fmt: skip
    _ask(found, runs.resolve(), yes, [])
    return _run(found, runs.resolve(), retry_failed=True, offline=offline, as_json=as_json)


def _resolve_writable(ablation: Ablation, *, runs: Path, offline: bool, **typed: Any) -> asked.Asked:
    """Resolve what was typed, after the places to write to are known to be there."""
    from cifar_lab.tracking import mlflow
    from cifar_lab.tracking.record import require_writable

    require_writable(runs)
    if not offline:
        mlflow.require_usable(mlflow.resolve_uri())
    return asked.resolve(ablation, runs=runs, **typed)


def _ask(found: asked.Asked, runs: Path, yes: bool, typed: list[str]) -> None:
    """Have more than an hour on a CPU confirmed; without a terminal, refuse, and name what is quick."""
    if yes or found.execution.device != "cpu" or found.seconds <= ASK_ABOVE:
        return
    hint = _small_line(found, runs, typed)
    long = f"{len(found.plan.to_train())} cells, about {console.duration(found.seconds)} with {found.workers} workers"
    if not sys.stdin.isatty():
        raise UsageError(f"{long}: more than an hour on a CPU needs -y where there is no terminal to ask. {hint}")
    console.say(f"{long}. {hint}")
    typer.confirm("Go on?", abort=True, err=True)


def _small_line(found: asked.Asked, runs: Path, typed: list[str]) -> str:
    """The same study at `--scale small`, ready to copy, with its estimate; nothing where there is no such study."""
    from cifar_lab import scale as scales
    from cifar_lab.run.estimate import estimate
    from cifar_lab.run.plan import make_plan

    plan = found.plan
    if plan.scale.name != "writeup" or plan.ablation.name == "train":
        return ""
    overrides = {path: value for path, value in plan.overrides.items() if path not in {"model.width", "train.epochs"}}
    try:
        small = make_plan(
            plan.ablation, scale=scales.find("small"), source=plan.source, dataset=plan.dataset, runs=runs,
            overrides=overrides, variants=list(dict.fromkeys(cell.variant for cell in plan.cells)),
            seeds=tuple(dict.fromkeys(cell.seed for cell in plan.cells)), max_params=2**62,
        )  # fmt: skip
    except UsageError:  # its variants coincide when they are small
        return ""
    seconds = asked.total(replace(small, estimates=estimate(small, found.seconds_per_mac)), found.workers)
    words = [f"{path}={json.dumps(value, separators=(',', ':'))}" for path, value in overrides.items()]
    line = ["cifar-lab", "run-ablation", plan.ablation.name, *words, "--scale", "small", "--data", plan.source, *typed]
    return f"Smaller, about {console.duration(seconds)}: {shlex.join([*line, '-y'])}"


def _run(found: asked.Asked, runs: Path, *, retry_failed: bool, offline: bool, as_json: bool) -> int:
    from cifar_lab.cli.display import Display
    from cifar_lab.run.results import compare
    from cifar_lab.run.runner import carry_out

    plan = found.plan
    wanted = {cell.fingerprint: cell.name for cell in plan.to_train(retry_failed=retry_failed)}
    with Display(wanted) as display:
        report = carry_out(
            plan, runs=runs, execution=found.execution, workers=found.workers, listener=display,
            retry_failed=retry_failed, offline=offline, say=console.say,
        )  # fmt: skip
    after = replace(plan, cells=tuple(replace(cell, state=cell.now(runs)) for cell in plan.cells))
    if as_json:
        tree = show.plan_tree(found._replace(plan=after))
        console.print_json({**tree, "trained": report.trained, "reused": report.reused})
    else:
        name, scale = plan.ablation.name, plan.scale.name
        print_comparison(compare(runs, name, scale=scale, data=plan.source, overrides=plan.overrides))
    return _conclude(after, report, runs)


def _conclude(plan: Plan, report: Report, runs: Path) -> int:
    """Say what was done and what was not; whatever is not done makes the exit code 1."""
    undone = [cell for cell in plan.cells if not cell.is_done]
    counts = Counter(cell.state for cell in undone)
    said = [f"{report.trained} trained", f"{report.reused} reused", f"{counts.pop('failed', 0)} failed"]
    console.say(", ".join([*said, *(f"{count} {state}" for state, count in counts.items())]))
    for cell in undone:
        if cell.state == "failed":
            console.say(
                f"{cell.name} failed: see {runs / cell.fingerprint / 'failure.json'}; again with --retry-failed"
            )
    if report.interrupted is not None:
        console.say(f"{report.interrupted}; the same command goes on from there")
        return report.interrupted.exit_code
    return 1 if undone else 0

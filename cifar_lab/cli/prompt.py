"""Confirmation prompts before long or destructive operations."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from cifar_lab.cli import console
from cifar_lab.config.overrides import as_words
from cifar_lab.errors import UsageError
from cifar_lab.execution.request import Request, remaining_seconds
from cifar_lab.terminal import is_terminal
from cifar_lab.text import many

ASK_ABOVE = 3600.0
"""Seconds on a CPU above which a run asks for confirmation."""


def confirm(question: str, what: str, yes: bool, hint: str = "") -> None:
    """Ask to confirm `what`, unless `yes`, and print `hint`. A negative answer ends the program with exit code 1.

    Raises:
        UsageError: there is no terminal for the question.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise UsageError(f"{what} needs -y where there is no terminal to ask. {hint}".rstrip(". "))
    console.say(f"{what}. {hint}".rstrip())
    if not typer.confirm(question, err=True):
        console.say("nothing was done")
        raise typer.Exit(1)


def confirm_long(found: Request, runs: Path, yes: bool, typed: Sequence[str]) -> None:
    """Ask to confirm more than an hour on a CPU; without a terminal, raise an error that suggests a quick command."""
    if yes or found.execution.device != "cpu" or found.seconds <= ASK_ABOVE:
        return
    hint = _small_line(found, runs, typed)
    cells, workers = many(len(found.plan.to_train()), "cell"), many(found.workers, "worker")
    long = f"{cells}, about {console.duration(found.seconds)} with {workers}"
    confirm("Go on?", f"{long}: more than an hour on a CPU", yes, hint)


def _small_line(found: Request, runs: Path, typed: Sequence[str]) -> str:
    """Return the same command at `--scale small`, ready to copy, with its estimate; empty if it is impossible."""
    from cifar_lab.config import scale as scales
    from cifar_lab.execution.estimate import estimate
    from cifar_lab.execution.plan import make_plan

    plan = found.plan
    if plan.scale.name != "writeup" or plan.ablation.name == "train":
        return ""
    overrides = {path: value for path, value in plan.overrides.items() if path not in {"model.width", "train.epochs"}}
    try:
        small = make_plan(
            plan.ablation, scale=scales.find_scale("small"), source=plan.source, dataset=plan.dataset, runs=runs,
            overrides=overrides, variants=list(dict.fromkeys(cell.variant for cell in plan.cells)),
            seeds=tuple(dict.fromkeys(cell.seed for cell in plan.cells)), max_params=2**62,
        )  # fmt: skip
    except UsageError:  # its variants coincide at that scale
        return ""
    seconds = remaining_seconds(replace(small, estimates=estimate(small, found.pace)), found.workers)
    words = ["cifar-lab", "run-ablation", plan.ablation.name, *as_words(overrides)]
    line = [*words, "--scale", "small", "--data", plan.source, *typed]
    return f"Smaller, about {console.duration(seconds)}: {shlex.join([*line, '-y'])}"

"""The app: its commands, one file a group."""

from __future__ import annotations

from typing import Annotated

import typer

from cifar_lab import __version__
from cifar_lab.cli import doctor, keep, living, report, results, search, show, sweep_report, tail, track, train, verify

app = typer.Typer(
    name="cifar-lab",
    help="Ablations on CIFAR-10 under a parameter budget: train what is missing, track it, compare it, believe it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cifar-lab {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command."""


app.command("list")(show.list_)
app.command("describe")(show.describe)
app.command("plan")(show.plan)
app.command("run-ablation")(train.run_ablation)
app.command("train")(train.train)
app.command("status")(living.status)
app.command("failures")(living.failures)
app.command("tail")(tail.tail)
app.command("compare")(results.compare)
app.command("report")(report.report)
app.command("verify")(verify.verify)
app.command("sweep")(search.sweep)
app.command("sweep-status")(search.sweep_status)
app.command("sweep-best")(search.sweep_best)
app.command("sweep-importance")(search.sweep_importance)
app.command("sweep-report")(sweep_report.sweep_report)
app.command("ablate-best")(search.ablate_best)
app.command("diff")(keep.diff)
app.command("sync")(track.sync)
app.command("ui")(track.ui)
app.command("doctor")(doctor.doctor)
app.command("clean")(keep.clean)

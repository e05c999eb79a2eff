"""`sync` and `ui`: upload runs to MLflow, and show them there."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.ablation import registry
from cifar_lab.cli import completion, console, tracking_options
from cifar_lab.cli import options as o
from cifar_lab.errors import TrackingError, UsageError, nearest
from cifar_lab.redaction import redacted
from cifar_lab.terminal import is_terminal
from cifar_lab.text import many, printable

if TYPE_CHECKING:
    from cifar_lab.mlflow_sync.client import ExperimentView


def sync(
    log_model: tracking_options.LogModel = None, register: tracking_options.Register = None,
    experiment_prefix: tracking_options.ExperimentPrefix = None, runs: o.Runs = o.DEFAULT_RUNS,
    ablations: o.Folders = None,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Upload to MLflow what it does not have yet; safe to repeat."""
    tracking_options.name_experiments(experiment_prefix)
    models = tracking_options.model_logging(log_model, register)
    from cifar_lab.mlflow_sync.upload import sync_all

    done = sync_all(runs.resolve(), console.say, registry.discover(*(ablations or [])), models=models)
    if as_json:
        console.print_json({"shipped": done.shipped, "left": done.left, "experiments": done.experiments})
    else:
        names = done.experiments
        to = f" to {printable(names[0]) if len(names) == 1 else many(len(names), 'experiment')}" if names else ""
        console.show(f"{many(done.shipped, 'cell')} shipped{to}, {done.left} left")
    return 1 if done.left else 0


def ui(
    ablation: Annotated[
        str | None,
        typer.Argument(
            metavar="ABLATION",
            help="Ablation to open. Default: the one that was run last.",
            autocompletion=completion.ablations,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 opens the runs to everybody who reaches this machine.")
    ] = "127.0.0.1",
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the links, open no browser.")] = False,
    runs: o.MaybeRuns = None,
    experiment_prefix: tracking_options.ExperimentPrefix = None,
    as_json: o.Json = False,
) -> int:
    """Serve the MLflow UI of this folder's runs on 127.0.0.1, and open the table of an ablation; Ctrl-C ends it.

    If MLFLOW_TRACKING_URI names a server, that one is opened and none is started.
    """
    tracking_options.name_experiments(experiment_prefix)
    from cifar_lab.mlflow_sync import server
    from cifar_lab.mlflow_sync.client import MLflowStore
    from cifar_lab.mlflow_sync.uri import require_usable, resolve_uri

    if runs is not None and not runs.is_dir():
        raise UsageError(f"--runs {runs}: no such folder")
    uri = resolve_uri()
    require_usable(uri)
    address = server.address_of(uri)
    if address is not None:
        shown = _chosen(MLflowStore.open(uri).shown(), ablation, runs)
        _point_to(address, shown, as_json=as_json, no_open=no_open)
        return 0
    server.require_free(port)
    shown = _chosen(MLflowStore.open(uri).shown(), ablation, runs)
    if warning := server.warning_of(host):
        console.say(warning)
    console.say(f"MLflow on {redacted(uri)}: starting, some seconds")
    try:
        with server.serve(uri, port, host) as served:
            _point_to(served.address, shown, as_json=as_json, no_open=no_open)
            console.say("Ctrl-C ends it")
            served.wait()
            raise TrackingError(f"the MLflow server ended: {served.last_words()}")
    except KeyboardInterrupt:
        return 0


def _chosen(shown: list[ExperimentView], ablation: str | None, runs: Path | None) -> list[ExperimentView]:
    """Return all experiments, that of `ablation` first, else the one that was run last; report what MLflow lacks."""
    from cifar_lab.mlflow_sync.client import experiment_name

    names = [entry.name for entry in shown]
    if ablation is not None and experiment_name(ablation) in names:
        ablation = experiment_name(ablation)
    if runs is not None:
        ablation = ablation or _last_run(runs, names)
        _say_lacking(runs)
    if ablation is not None and ablation not in names:
        raise TrackingError(f"MLflow has no runs of '{printable(ablation)}'{nearest(ablation, names)}")
    return sorted(shown, key=lambda entry: entry.name != ablation)


def _last_run(runs: Path, names: list[str]) -> str | None:
    """Return the experiment of the ablation that was asked for last in `runs`, of those that MLflow has."""
    from cifar_lab.mlflow_sync.client import experiment_name
    from cifar_lab.store.invocation_index import read_index

    asked = [experiment_name(each.ablation) for each in read_index(runs.resolve()).invocations]
    return next((name for name in reversed(asked) if name in names), None)


def _say_lacking(runs: Path) -> None:
    from cifar_lab.mlflow_sync.upload import lacking

    if count := sum(lacking(runs.resolve()).values()):
        verb = "is" if count == 1 else "are"
        console.say(f"{many(count, 'cell')} of {runs} {verb} not in MLflow yet; `cifar-lab sync --runs {runs}`")


def _point_to(address: str, shown: list[ExperimentView], *, as_json: bool, no_open: bool) -> None:
    """Print the link to each ablation, and open the first."""
    from cifar_lab.mlflow_sync import ui_view

    links = [
        {
            "ablation": entry.name,
            "table": ui_view.link(address, entry.experiment, entry.key),
            "charts": ui_view.link(address, entry.experiment, entry.key, charts=True),
        }
        for entry in shown
    ]
    if as_json:
        console.print_json({"server": address, "ablations": links})
    for link in links if not as_json else ():
        for line in (link["ablation"], f"  table   {link['table']}", f"  charts  {link['charts']}"):
            console.show(line)
    if not links:
        console.say(f"{address}: no ablation here yet; `run-ablation` brings one, `sync` those that were not shipped")
    console.out.file.flush()
    if not no_open and _has_desktop():
        webbrowser.open(links[0]["table"] if links else address)


def _has_desktop() -> bool:
    """Tell whether the user is at a terminal of a machine that can show a browser."""
    if not is_terminal(console.out.file):
        return False
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""`sync` and `ui`: the runs in MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from cifar_lab.cli import console
from cifar_lab.cli import options as o


def sync(runs: o.Runs = o.DEFAULT_RUNS, as_json: o.Json = False) -> int:
    """Ship to MLflow what it does not have yet; safe to repeat."""
    from cifar_lab.run.shipping import sync_all

    shipped, left = sync_all(runs.resolve(), console.say)
    if as_json:
        console.print_json({"shipped": shipped, "left": left})
    else:
        console.out.print(f"{shipped} cells shipped, {left} left")
    return 1 if left else 0


def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> int:
    """Serve the MLflow UI of this folder's runs on 127.0.0.1, with as few processes as it can be."""
    from cifar_lab.tracking import mlflow, view

    uri, server = mlflow.resolve_uri(), f"http://127.0.0.1:{port}"
    mlflow.require_usable(uri)
    console.say(f"MLflow on {mlflow.redact(uri)}: {server} (up in some seconds; Ctrl-C ends it)")
    for name, experiment in sorted(mlflow.Store.open(uri).experiments().items()):
        console.say(f"{name}: {view.link(server, experiment)}")
    lean = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]
    try:
        return subprocess.run([*command, "--host", "127.0.0.1"], env={**os.environ, **lean}, check=False).returncode
    except KeyboardInterrupt:
        return 0

"""The options that several commands share, each worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AblationName = Annotated[str, typer.Argument(metavar="ABLATION", help="Name of an ablation; see `cifar-lab list`.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[PATH=VALUE]…", help="Recipe overrides, `train.epochs=30`; they win.")
]
ScaleName = Annotated[str, typer.Option("--scale", help="smoke, small or writeup: shrinks every variant alike.")]
Data = Annotated[
    str | None,
    typer.Option(help="cifar10, synthetic, or a folder or zip of train/<class>/* and test/<class>/* images."),
]
Runs = Annotated[
    Path, typer.Option("--runs", envvar="CIFAR_LAB_RUNS", help="Where cells are kept.", show_default="./runs")
]
Folders = Annotated[
    list[Path] | None, typer.Option("--ablations", metavar="DIR", help="A folder with ablations of your own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Variants = Annotated[str | None, typer.Option(help="Only these, comma-separated: r4,r16.")]
Seeds = Annotated[str | None, typer.Option(help="Replicates: 0-4 or 0,2,5.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Workers = Annotated[str, typer.Option(help="Processes that train at the same time: auto or a number.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile networks; pays on long trainings.")]
MaxParams = Annotated[str, typer.Option(help="Budget of trainable parameters: 5M, 800k or a number.")]
Offline = Annotated[bool, typer.Option("--offline", help="Ship nothing to MLflow now; `cifar-lab sync` does it later.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]

DEFAULT_RUNS = Path("runs")

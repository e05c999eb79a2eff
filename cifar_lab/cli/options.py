"""Options shared by several commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cifar_lab.ablation.registry import FOLDERS, folders_of_environment
from cifar_lab.cli import completion
from cifar_lab.config.scale import find_scale
from cifar_lab.errors import UsageError
from cifar_lab.object_store import is_address, parse_address
from cifar_lab.out_of_space import is_out_of_space
from cifar_lab.store.atomic_file import require_place as require_place

RUNS = "CIFAR_LAB_RUNS"


def _folders(ctx: typer.Context, folders: list[Path] | None) -> list[Path] | None:
    """Return the environment's folders without empty ones: a stray separator does not mean the current folder."""
    source = ctx.get_parameter_source("ablations")
    if source is None or source.name != "ENVIRONMENT":
        return folders
    return folders_of_environment()


def require_folder(runs: Path) -> None:
    """Check that a runs folder which a command writes to is not a file.

    Raises:
        UsageError: it is one; a packed study is only read.
    """
    if runs.is_file():
        raise UsageError(f"--runs {runs}: a file; this command needs a folder of records (a packed study is only read)")


def require_runs(runs: Path) -> None:
    """Check that a runs folder is there.

    Raises:
        UsageError: it is not.
    """
    if not runs.is_dir():
        raise UsageError(f"--runs {runs}: no such folder; nothing has been run there")


def parse_runs(typed: str | Path) -> Path | str:
    """Return the path of a runs folder, or an address of S3.

    Raises:
        UsageError: another address.
        typer.BadParameter: the folder cannot be read.
    """
    place = parse_address(typed, "--runs") if isinstance(typed, str) and is_address(typed) else Path(typed)
    if isinstance(place, Path) and _is_there(place) and not os.access(place, os.R_OK):
        raise typer.BadParameter(f"Path '{place}' is not readable.")
    return place


def _is_there(path: Path) -> bool:
    """Tell whether a path exists; one that cannot be looked at is left to the command."""
    try:
        return path.exists()
    except OSError:
        return False


def _opened(ctx: typer.Context, runs: Path | str) -> Path:
    """Return a runs folder as it is, and of an address this machine's copy, which is refreshed."""
    if isinstance(runs, Path):
        return runs
    if ctx.resilient_parsing:
        return DEFAULT_RUNS
    from cifar_lab.store.mirror import open_mirror

    return open_mirror(runs)


def _folder_of_records(ctx: typer.Context, runs: Path | str) -> Path:
    folder = _opened(ctx, runs)
    if not ctx.resilient_parsing:
        require_folder(folder)
    return folder


def _local_folder(ctx: typer.Context, runs: Path | str) -> Path:
    """Return a runs folder of this machine.

    Raises:
        UsageError: an address.
    """
    if isinstance(runs, str) and not ctx.resilient_parsing:
        raise UsageError(f"--runs {runs}: `{ctx.info_name}` needs a folder; copy the records to one first")
    return _folder_of_records(ctx, runs)


def open_records(runs: Path) -> Path:
    """Return a runs folder as it is, and of a packed study the folder that it is unpacked to.

    Raises:
        UsageError: no file of this name is there.
        TrackingError: the file is no packed study, or is damaged.
    """
    if runs.suffix == ".zip" and not runs.exists():
        raise UsageError(f"--runs {runs}: no such file")
    if not runs.is_file():  # the module for it is not needed
        return runs
    from cifar_lab.store.packed_study import study_folder

    return study_folder(runs)


def _records(ctx: typer.Context, runs: Path | str) -> Path:
    folder = _opened(ctx, runs)
    return folder if ctx.resilient_parsing else open_records(folder)


def _local_or_zip(ctx: typer.Context, runs: Path | str) -> Path:
    return runs if isinstance(runs, Path) else _local_folder(ctx, runs)


def _if_given(ctx: typer.Context, runs: Path | str | None) -> Path | None:
    return None if runs is None else _folder_of_records(ctx, runs)


def _option(records: str, callback: Callable[[typer.Context, Any], Path | None], default: str | bool = "./runs") -> Any:
    return typer.Option(
        "--runs", envvar=RUNS, metavar="PATH", help=f"Folder of the records of cells{records}.", parser=parse_runs,
        show_default=default, callback=callback,
    )  # fmt: skip


AblationName = Annotated[
    str,
    typer.Argument(
        metavar="ABLATION", help="Name of an ablation; see `cifar-lab list`.", autocompletion=completion.ablations
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH=VALUE]…",
        help="Override recipe fields, `train.epochs=30`; applied after --scale. See `cifar-lab describe recipe`.",
        autocompletion=completion.overrides,
    ),
]
NamedCell = Annotated[
    str,
    typer.Argument(
        metavar="CELL",
        help="Cell: ABLATION/VARIANT/sN (in its latest setting), or the first digits of a fingerprint.",
        autocompletion=completion.cells,
    ),
]
ScaleName = Annotated[
    str,
    typer.Option(
        "--scale", help="Shrink every variant alike: smoke, small or writeup.", autocompletion=completion.scales
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="cifar10, cifar100, synthetic, or a path: CIFAR's files, or a folder or archive of train/<class>/* and "
        "test/<class>/* images.",
        autocompletion=completion.data,
    ),
]
Runs = Annotated[Path, _option(", or s3://BUCKET/PATH", _folder_of_records)]
MaybeRuns = Annotated[
    Path | None,
    _option(
        ", or s3://BUCKET/PATH: open the ablation that was run last there, and count what MLflow lacks of it",
        _if_given,
        default=False,
    ),
]
RunsOrZip = Annotated[Path, _option(", s3://BUCKET/PATH, or a zip made by `cifar-lab pack`", _records)]
RunsUnopened = Annotated[Path, _option(", s3://BUCKET/PATH, or a zip made by `cifar-lab pack`", _opened)]
RunsFolderUnopened = Annotated[Path, _option(", or a zip made by `cifar-lab pack`", _local_or_zip)]
Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--ablations", metavar="DIR", envvar=FOLDERS, callback=_folders, help="Folder with ablations of your own."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Everything = Annotated[
    bool, typer.Option("--all", help="Also print costs, learning speed, statistical evidence and how to read them.")
]
Variants = Annotated[
    str | None,
    typer.Option(help="Use these variants only, comma-separated: r4,r16.", autocompletion=completion.variants),
]
Seeds = Annotated[str | None, typer.Option(help="Seeds to train: 0-4 or 0,2,5.")]
Device = Annotated[
    str,
    typer.Option(
        help="Device to train on: auto, cpu, cuda, mps, or one GPU, cuda:1.",
        autocompletion=completion.one_of("auto", "cpu", "cuda", "mps"),
    ),
]
Workers = Annotated[str, typer.Option(help="Number of worker processes: auto or a number.")]
CellsPerGpu = Annotated[
    str,
    typer.Option(
        "--cells-per-gpu",
        metavar="auto|N",
        help="Worker processes per GPU when --workers is auto; auto: as many as keep it busy, by timing.",
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="Use torch.compile. Default: where that was measured to pay."),
]
Graph = Annotated[
    bool | None,
    typer.Option(
        "--graph/--no-graph",
        help="Replay each training step as one CUDA graph. Default: on CUDA, where it gives the same numbers.",
        show_default=False,
    ),
]
CompileEach = Annotated[bool, typer.Option("--compile", help="Use torch.compile; recompiles for each trial.")]
MaxParams = Annotated[str, typer.Option(help="Budget of trainable parameters: 5M, 800k or a number.")]
StallAfter = Annotated[
    float | None,
    typer.Option(
        "--stall-after",
        metavar="SECONDS",
        min=1.0,
        max=1e9,
        envvar="CIFAR_LAB_STALL_AFTER",
        help="End a worker that makes no progress for that long, and for two epochs at its pace; its cell has failed.",
        show_default="900",
    ),
]
Hours = Annotated[
    float | None,
    typer.Option(
        "--hours",
        metavar="HOURS",
        min=0.01,
        max=100_000,
        help="Save and stop after that long, with exit code 0; the same command goes on from there.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Upload nothing to MLflow now; `cifar-lab sync` does it later.")
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Skip confirmation prompts.")]

DEFAULT_RUNS = Path("runs")
MaybeScale = Annotated[
    str | None,
    typer.Option(
        "--scale", help="Select another scale than that of the latest invocation.", autocompletion=completion.scales
    ),
]
MaybeData = Annotated[
    str | None,
    typer.Option(
        "--data", help="Select other data than those of the latest invocation.", autocompletion=completion.data
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Also train the cells that failed before.")]
MaybeInvocation = Annotated[
    str | None,
    typer.Option(
        "--invocation",
        metavar="ID",
        help="Select the setting of an earlier invocation, by the id in its header.",
        autocompletion=completion.invocations,
    ),
]


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Convert an error of writing `-o` to one line; a full disk is left to the command line as a whole.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        if is_out_of_space(error):
            raise
        raise UsageError(f"-o {output}: {error.strerror or error}") from error


def require_setting(
    invocation: str | None, names: Collection[str], scale: str | None, data: str | None, overrides: Collection[str]
) -> None:
    """Check that a scale exists, and that an invocation id is given for one ablation and without other selectors.

    Raises:
        UsageError: no such scale, or an id together with other selectors, or with none or several ablations.
    """
    if scale is not None:
        find_scale(scale)
    if invocation is None:
        return
    if len(names) != 1:
        raise UsageError("--invocation is of one ablation: name it, and no other")
    if scale is not None or data is not None or overrides:
        raise UsageError("--invocation names a whole setting; leave --scale, --data and overrides out")

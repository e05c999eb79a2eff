"""The typer app: its commands by name, each imported on demand."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cifar_lab import __version__
from cifar_lab.errors import CifarLabError, described

GROUPS: dict[str, dict[str, tuple[str, str, str]]] = {
    "Ablations": {
        "list": ("describe", "list_", "List the ablations that can be run."),
        "describe": ("describe", "describe", "Show an ablation, or the fields of a recipe."),
        "plan": ("plan", "plan", "Show the cells of an ablation and estimate the time."),
        "run-ablation": ("run_ablation", "run_ablation", "Train the missing cells of an ablation and compare."),
        "ablate": ("ablate", "ablate", "Ablate one setting, without a file."),
        "train": ("run_ablation", "train", "Train one recipe."),
    },
    "Progress": {
        "status": ("status", "status", "Show the progress of cells."),
        "failures": ("status", "failures", "Show the cells that failed, and why."),
        "tail": ("tail", "tail", "Print the training log of a cell."),
        "diff": ("diff_and_clean", "diff", "Compare two cells."),
    },
    "Results": {
        "compare": ("compare", "compare", "Show means and paired differences to the control."),
        "report": ("report", "report", "Write an HTML page of one ablation or several."),
        "verify": ("verify", "verify", "Judge the claims of sources by what was measured."),
        "judge": ("judge", "judge", "Judge numbers that were made elsewhere: FILE.csv."),
        "pack": ("pack", "pack", "Write studies into one zip that other machines read."),
    },
    "Trained networks": {
        "predict": ("predict", "predict", "Classify images without labels, and write the answers."),
        "evaluate": ("evaluate", "evaluate", "Evaluate on labelled images, also corrupted ones."),
        "shift": ("shift", "shift", "Estimate the accuracy on images without labels."),
        "export": ("export", "export", "Write a network as ONNX, compared with PyTorch."),
    },
    "Search": {
        "sweep": ("sweep", "sweep", "Search hyperparameters under the budget."),
        "sweep-status": ("sweep", "sweep_status", "Show the progress of a study."),
        "sweep-best": ("sweep", "sweep_best", "Show the best recipe and the front of a study."),
        "sweep-importance": ("sweep_importance", "sweep_importance", "Rank the dimensions of a study by importance."),
        "sweep-confirm": ("sweep_confirm", "sweep_confirm", "Train the best trials with fresh seeds and rank them."),
        "sweep-report": ("report", "sweep_report", "Write an HTML page of one study."),
        "ablate-best": ("sweep", "ablate_best", "Ablate the tuned settings of a study."),
    },
    "MLflow": {
        "ui": ("mlflow", "ui", "Serve the MLflow UI of this folder's runs."),
        "sync": ("mlflow", "sync", "Upload to MLflow what it does not have yet."),
    },
    "Maintenance": {
        "doctor": ("doctor", "doctor", "Check and measure devices; check stores and folders."),
        "fsck": ("fsck", "fsck", "Check records, notes and studies; repair on request."),
        "clean": ("diff_and_clean", "clean", "Delete abandoned checkpoints and superseded records."),
    },
}
"""Module, function and line of `--help` by group and command, so that help imports no command."""
COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}
"""The commands of all groups by name."""
HIDDEN = {"slurm-task": ("slurm", "slurm_task", "Train one task's share of a submission to Slurm.")}
"""Commands for programs, which help and completion leave out."""
PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


CONTEXT: ContextVar[Any] = ContextVar("context", default=None)
"""Context of the command that runs, with its parsed parameters; None while none runs."""


class Command(TyperCommand):
    """Command whose context is known while it runs, and whose end is told where `--notify` asks for it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; `ctx`: its context with the parsed parameters."""
        from cifar_lab.cli.console import reserved_for_results  # `--help` loads no module of a command
        from cifar_lab.cli.notify import notifying_of_command

        token = CONTEXT.set(ctx)
        try:
            with reserved_for_results(), notifying_of_command() as notification:
                code = super().invoke(ctx)
                notification.code = code if isinstance(code, int) else 0
                return code
        except SystemExit as error:
            raise _ended_by_users_code(error) from error
        finally:
            CONTEXT.reset(token)


def _ended_by_users_code(error: SystemExit) -> CifarLabError:
    """Return the error that names the line which ended the command: no code of this package does so."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return CifarLabError(f"{last.filename}:{last.lineno}: {described(error)}; code of your own ended the command")


class _Commands(Mapping[str, Any]):
    """typer's commands by name, each created on demand."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, function, _ = {**COMMANDS, **HIDDEN}[name]
            alone = typer.Typer(add_completion=False, **PLAIN)
            alone.command(name, cls=Command)(getattr(import_module(f"cifar_lab.cli.{module}"), function))
            self._made[name] = typer.main.get_command(alone)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS or name in HIDDEN


class _Group(TyperGroup):
    """Group that lists names and help lines of commands without importing their modules."""

    def __init__(self, **made: Any) -> None:
        super().__init__(**made)
        self.commands = _Commands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C, where the command does not handle it, is `typer.Abort`, which gets its line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort(*error.args) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        width = max(map(len, COMMANDS))  # all groups have one column of names
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, (_, _, line) in group.items()])


app = typer.Typer(
    name="cifar-lab",
    cls=_Group,
    help="Run ablation studies of small CIFAR-10 networks, track them in MLflow, report what differs.",
    **PLAIN,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cifar-lab {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the traceback of an error.")] = False,
) -> None:
    """Handle the options common to all commands."""

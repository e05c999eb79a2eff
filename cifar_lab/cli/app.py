"""The app: its commands by name, each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cifar_lab import __version__

COMMANDS = {
    "list": ("show", "list_", "The ablations that can be run."),
    "describe": ("show", "describe", "One ablation: question, variants, budget, claims."),
    "plan": ("show", "plan", "Its cells: which are done, what the others take."),
    "run-ablation": ("train", "run_ablation", "Train the missing cells of an ablation; compare."),
    "train": ("train", "train", "Train one recipe."),
    "status": ("living", "status", "How far the cells are."),
    "failures": ("living", "failures", "The cells that failed, and why."),
    "tail": ("tail", "tail", "What happened in a cell, a line an epoch."),
    "compare": ("results", "compare", "Means and paired differences to the control."),
    "report": ("report", "report", "A page of one ablation or several, as HTML."),
    "verify": ("verify", "verify", "What sources claim, against what was measured."),
    "sweep": ("search", "sweep", "Search hyperparameters under the budget."),
    "sweep-status": ("search", "sweep_status", "How far a study is."),
    "sweep-best": ("search", "sweep_best", "The best recipe of a study, and the front."),
    "sweep-importance": ("search", "sweep_importance", "Which dimensions the accuracy followed."),
    "sweep-report": ("sweep_report", "sweep_report", "A page of one search, as HTML."),
    "ablate-best": ("search", "ablate_best", "Which of the tuned settings matters?"),
    "diff": ("keep", "diff", "What tells two cells apart."),
    "sync": ("track", "sync", "Ship to MLflow what it does not have yet."),
    "ui": ("track", "ui", "Serve the MLflow UI of this folder's runs."),
    "doctor": ("doctor", "doctor", "Check and measure devices; check stores and folders."),
    "clean": ("keep", "clean", "Free what is of no more use."),
    "fsck": ("fsck", "fsck", "Check records, notes and studies; mend what can be."),
}
"""By name: the module here, its function, and a line for `--help`, which so imports none of them."""
PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class _Commands(Mapping[str, Any]):
    """typer's commands by name, each made when it is looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, function, _ = COMMANDS[name]
            alone = typer.Typer(add_completion=False, **PLAIN)
            alone.command(name)(getattr(import_module(f"cifar_lab.cli.{module}"), function))
            self._made[name] = typer.main.get_command(alone)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS


class _Group(TyperGroup):
    """Names and lines of the commands without their modules."""

    def __init__(self, **made: Any) -> None:
        super().__init__(**made)
        self.commands = _Commands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


app = typer.Typer(
    name="cifar-lab",
    cls=_Group,
    help="Ablations on CIFAR-10 under a parameter budget: train what is missing, track it, compare it, believe it.",
    **PLAIN,
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

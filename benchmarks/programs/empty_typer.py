"""Minimal command line with typer and rich: `--help`, or a command that prints an empty table."""

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer()


@app.command()
def table() -> None:
    """Print an empty table."""
    Console().print(Table("name", "question"))


@app.command()
def other() -> None:
    """Do nothing; the app needs two commands to show names."""


if __name__ == "__main__":
    app()

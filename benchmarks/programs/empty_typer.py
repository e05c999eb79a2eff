"""The least that a command line with typer and rich can be: `--help`, or a command that prints an empty table."""

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer()


@app.command()
def table() -> None:
    """Print a table with nothing in it."""
    Console().print(Table("name", "question"))


@app.command()
def other() -> None:
    """Do nothing; with two commands there are names to print."""


if __name__ == "__main__":
    app()

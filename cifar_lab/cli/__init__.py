"""The command line. Each command imports what it needs when it runs, so that `--help` and `list` are instant."""

from __future__ import annotations

import logging
import os
import sys
import traceback

import typer
from typer.exceptions import TyperException

from cifar_lab.errors import CifarLabError

# To look for plugins, of which the lab needs none, pydantic reads the metadata of every package that is installed.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


class _Warnings(logging.Handler):
    """Print what a module warns of as one line on standard error, once a command."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if line not in self.told:
            print(f"cifar-lab: {line}", file=sys.stderr)
        self.told.add(line)


_warnings = _Warnings()


def main() -> None:
    """Entry point: run a command and turn its end into an exit code (see `cifar_lab.errors`)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; what went wrong is one line on standard error."""
    verbose = bool({"-v", "--verbose"} & set(arguments))
    arguments = [argument for argument in arguments if argument not in {"-v", "--verbose"}]
    from cifar_lab.cli.app import app

    _warnings.told.clear()
    logging.getLogger("cifar_lab").addHandler(_warnings)  # a handler that is there already is not added twice
    arguments = arguments or ["--help"]

    try:
        code = app(args=arguments, prog_name="cifar-lab", standalone_mode=False)
    except (CifarLabError, TyperException) as error:
        if verbose:
            traceback.print_exc()
        message = error.format_message() if isinstance(error, TyperException) else str(error)
        if message:
            print(f"cifar-lab: {' '.join(message.split())}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("cifar-lab: stopped", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0

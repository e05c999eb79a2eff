"""Command line interface. Each command imports its modules when it runs, so that `--help` and `list` are instant."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from cifar_lab import openmp
from cifar_lab.cli import std_streams
from cifar_lab.errors import CifarLabError, OutOfSpace
from cifar_lab.object_store import with_addresses
from cifar_lab.out_of_space import is_out_of_space, where
from cifar_lab.redaction import redacted

# pydantic would read the metadata of every installed package to find plugins, which are not used.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
openmp.spin_briefly()
SHARED_MEMORY = Path("/dev/shm")
LIMITS = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
TOO_MUCH = (RecursionError, MemoryError, OverflowError)
"""Errors raised by input that is deeper or larger than this machine can handle."""


class _Warnings(logging.Handler):
    """Handler that prints each warning as one line on standard error, once per command."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line not in self.told:
            _say(line, verbose=False)
        self.told.add(line)


_warnings = _Warnings()


def main() -> None:
    """Run a command and exit with its exit code (see `cifar_lab.errors`)."""
    std_streams.prepare()
    for number in filter(None, (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    try:
        code = std_streams.finish(run(sys.argv[1:]))
    except KeyboardInterrupt as error:
        code = _stopped_by(error)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # shutting down the interpreter then shows no traceback
    sys.exit(code)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End a command as Ctrl-C does, where it does not handle the signal itself: its processes end with it."""
    raise KeyboardInterrupt(number)


def _stopped_by(error: KeyboardInterrupt | typer.Abort) -> int:
    """Return the exit code of a command that a signal ended, 128 and its number; of SIGINT if nothing names it."""
    return 128 + next((each for each in error.args if isinstance(each, int)), signal.SIGINT)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; an error is printed as one line on standard error."""
    verbose = bool({"-v", "--verbose"} & set(arguments))
    arguments = [argument for argument in arguments if argument not in {"-v", "--verbose"}] or ["--help"]
    _warnings.told.clear()
    logging.getLogger("cifar_lab").addHandler(_warnings)  # an existing handler is not added twice
    try:
        from cifar_lab.cli.app import app

        code = app(args=arguments, prog_name="cifar-lab", standalone_mode=False)
    except (CifarLabError, TyperException) as error:
        _say(_message(error, arguments), verbose)
        return error.exit_code
    except TOO_MUCH as error:
        _say(f"the input is too large or too deep for this machine ({type(error).__name__}: {error})", verbose)
        return 2
    except (KeyboardInterrupt, typer.Abort) as error:
        _say("stopped", verbose=False)
        return _stopped_by(error)
    except OSError as error:
        return _refused(error, verbose)
    except ImportError as error:
        _say(f"a library cannot be loaded: {error}", verbose)
        return 1
    return code if isinstance(code, int) else 0


def _message(error: CifarLabError | TyperException, arguments: list[str]) -> str:
    from cifar_lab.cli.app import COMMANDS
    from cifar_lab.cli.wording import typed_wrongly

    return typed_wrongly(error, arguments, list(COMMANDS)) if isinstance(error, TyperException) else str(error)


def _refused(error: OSError, verbose: bool) -> int:
    """Return the exit code for an error of the operating system: standard output, a full disk, a limit, a file."""
    if error.filename is None and (error.errno in std_streams.QUIET or is_out_of_space(error)):
        return std_streams.refused(error)
    if is_out_of_space(error):
        _say(where(error), verbose)
        return OutOfSpace.exit_code
    named = f"{error.filename}: " if error.filename is not None else ""
    hint = "; a limit of this machine, see `ulimit -a`" if error.errno in LIMITS else ""
    if not named and error.errno == errno.ENOENT and not SHARED_MEMORY.exists():  # that of a semaphore has no name
        hint = f"; {SHARED_MEMORY}, which processes share memory in, is not mounted"
    _say(f"{named}{error.strerror or error}{hint}", verbose)
    return 1


def _say(message: str, verbose: bool) -> None:
    from cifar_lab.text import one_line

    if verbose:
        std_streams.warn(redacted(traceback.format_exc()).rstrip())
    if message:
        std_streams.warn(f"cifar-lab: {one_line(redacted(with_addresses(message)))}")

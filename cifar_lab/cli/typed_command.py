"""The command that this process runs, for its record: as typed, and as it is typed to go on with it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Any

from cifar_lab.cli.app import CONTEXT
from cifar_lab.object_store import with_addresses
from cifar_lab.redaction import redacted_command
from cifar_lab.store.invocation import RecordedCommand

LEFT_OUT = ("redo", "as_json", "notify")
"""Parameters that a command to go on with leaves out: records are not set aside twice, and addresses hold secrets."""
RETRY = "retry_failed"
"""Parameter with which failed cells are trained, too."""


def recorded_command() -> RecordedCommand:
    """Return the command that this process runs, without passwords."""
    typed = redacted_command(["cifar-lab", *sys.argv[1:]])
    context = CONTEXT.get()
    if context is None:
        return RecordedCommand(typed=typed)
    again = list(_words(context, without=LEFT_OUT))
    retry = list(_words(context, without=(*LEFT_OUT, RETRY)))
    can_retry = any(parameter.name == RETRY for parameter in context.command.params)
    return RecordedCommand(
        typed=typed, again=shlex.join(again), retry=shlex.join([*retry, "--retry-failed"] if can_retry else again)
    )


def _words(context: Any, without: tuple[str, ...]) -> Iterator[str]:
    """Yield the words of a command from its parsed parameters: its name, its arguments, then options as typed."""
    yield from context.command_path.split()
    typed = [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]
    parameters = {parameter.name: parameter for parameter in context.command.params}
    kept = [(parameters[name], context.params[name]) for name in typed if name not in without]
    for kind in ("argument", "option"):
        for parameter, value in kept:
            if parameter.param_type_name == kind:
                yield from _words_of(parameter, value)


def _words_of(parameter: Any, value: Any) -> Iterator[str]:
    """Yield the words of one parameter with its parsed value; a list is repeated."""
    values = value if isinstance(value, list | tuple) else [value]
    if parameter.param_type_name == "argument":
        yield from map(str, values)
        return
    for each in values:
        if isinstance(each, bool):
            yield _flag(parameter.opts if each else parameter.secondary_opts)
        else:
            yield from (_flag(parameter.opts), with_addresses(str(each)))


def _flag(names: list[str]) -> str:
    """Return the long name of an option."""
    return max(names, key=len)

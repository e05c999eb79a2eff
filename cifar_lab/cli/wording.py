"""Describe what is wrong with the words of a command line: the rule, and the nearest valid name."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence

from typer.exceptions import TyperException

from cifar_lab.config.recipe import paths
from cifar_lab.errors import nearest, plain_rule, shortened

OVERRIDES = ("plan", "run-ablation", "train", "sweep", "compare", "report", "verify", "ablate-best", "ablate")
"""Commands that take recipe overrides."""

UNKNOWN = "…"
"""Stands for a value that was not found on the command line."""


def typed_wrongly(error: TyperException, arguments: list[str], commands: list[str]) -> str:
    """Describe what is wrong with the words of a command line, with a suggestion."""
    message = error.format_message()
    if option := re.match(r"No such option: (\S+)", message):
        return _no_such_option(option[1], getattr(error, "possibilities", None) or [], arguments)
    if command := re.match(r"No such command '(.*?)'", message, re.DOTALL):
        return f"no command '{command[1]}'{_command(command[1], commands)}"
    if number := re.match(r"Invalid value for '(-\S+)'(?: \(env var: '(\w+)'\))?: (Input should be .*)", message):
        return _no_such_number(number[1], number[2], number[3], arguments)
    return message


def _no_such_number(option: str, variable: str | None, rule: str, arguments: list[str]) -> str:
    """Return pydantic's rule about a number in shorter words, and the value that was typed or is in the environment."""
    value = _value_of(option, arguments)
    if value == UNKNOWN and variable is not None and variable in os.environ:
        option, value = variable, os.environ[variable]
    return f"{option} {plain_rule(rule)}" + (f", got {shortened(repr(value), 80)}" if value != UNKNOWN else "")


def _command(name: str, commands: list[str]) -> str:
    """Return a suggestion for a command: the first that begins with it, else the nearest."""
    beginning = [command for command in commands if name and command.startswith(name.lower())]
    return f"; did you mean '{beginning[0]}'?" if beginning else nearest(name, commands)


def _no_such_option(option: str, possibilities: Sequence[str], arguments: list[str]) -> str:
    """Return a suggestion for an option: a recipe path that ends with it, else the nearest of `possibilities`."""
    leaf = option.lstrip("-").replace("-", "_").lower()
    meant = [path for path in paths() if leaf in {path, path.rsplit(".", 1)[-1]}]
    if meant and any(argument in OVERRIDES for argument in arguments[:1]):
        return f"no option {option}; did you mean {meant[0]}={_value_of(option, arguments)}?"
    words = {known.lstrip("-"): known for known in possibilities}  # dashes, which all have, make none alike
    close = difflib.get_close_matches(option.lstrip("-"), words, n=1, cutoff=0.6)
    return f"no option {option}; did you mean {words[close[0]]}?" if close else f"no option {option}; see --help"


def _value_of(option: str, arguments: list[str]) -> str:
    """Return the last value typed for an option, `--epochs 3` or `--epochs=3`; `UNKNOWN` if there is none."""
    value = UNKNOWN
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == option and (following[:1] not in ("", "-") or re.match(r"-(\d|\.|inf|nan)", following)):
            value = following
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
    return value

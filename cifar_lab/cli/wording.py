"""Describe what is wrong with the words of a command line: the rule, and the nearest valid name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from typer.exceptions import TyperException

from cifar_lab.config.recipe import paths
from cifar_lab.errors import nearest

OVERRIDES = ("plan", "run-ablation", "train", "sweep", "compare", "report", "verify", "ablate-best", "ablate")
"""Commands that take recipe overrides."""


def typed_wrongly(error: TyperException, arguments: list[str], commands: list[str]) -> str:
    """Describe what is wrong with the words of a command line, with a suggestion."""
    message = error.format_message()
    if option := re.match(r"No such option: (\S+)", message):
        return _no_such_option(option[1], getattr(error, "possibilities", None) or [], arguments)
    if command := re.match(r"No such command '(.*?)'", message, re.DOTALL):
        return f"no command '{command[1]}'{_command(command[1], commands)}"
    return message


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
    """Return the value typed for an option, `--epochs 3` or `--epochs=3`; an ellipsis if there is none."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == option and following and not following.startswith("-"):
            return following
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return "…"

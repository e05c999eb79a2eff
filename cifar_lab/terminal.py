"""Terminals: where a person reads along, so that lines can be redrawn and questions asked."""

from __future__ import annotations

import os
from typing import IO, Any

KERNEL = "JPY_PARENT_PID"
"""Environment variable that a notebook's kernel has, and so each command of its cells; terminals of Jupyter lack it."""
DUMB = frozenset({"dumb", "unknown"})
"""Values of `TERM` of terminals that cannot move their cursor."""


def is_terminal(stream: IO[Any]) -> bool:
    """Tell whether a person reads or types at `stream`, on a terminal that can redraw a line.

    Options such as `FORCE_COLOR` choose colours and do not count. A command of a notebook's cell has a
    pseudo-terminal whose output is kept like that of a pipe, and whose input nobody types.
    """
    if os.environ.get(KERNEL) or os.environ.get("TERM", "").lower() in DUMB:
        return False
    return os.environ.get("TTY_COMPATIBLE") != "0" and stream.isatty()  # the variable is rich's, for the same

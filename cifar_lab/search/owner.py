"""Which runner a trial is with, so that the trials of one that was killed are found out at once on its host."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any

import psutil

TOLERANCE = 2.0
"""Seconds by which two readings of when one process began may differ: clocks are set."""


def new_owner() -> dict[str, Any]:
    """Return what tells this runner from every other one: host, process, when that began (s since 1970), a token."""
    began = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": began, "run": uuid.uuid4().hex}


def is_alive(owner: object, me: Mapping[str, Any]) -> bool | None:
    """Tell whether the runner `owner`, as a trial has it, is alive; None where that cannot be seen from here.

    `me`: this runner. An earlier runner of this very process is over.
    """
    if not isinstance(owner, Mapping) or owner.get("host") != me["host"]:
        return None
    if owner.get("pid") == me["pid"]:
        return bool(owner.get("run") == me["run"])
    try:
        began = psutil.Process(int(owner["pid"])).create_time()
    except psutil.AccessDenied:
        return None
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return False
    return abs(began - float(owner.get("began", began))) < TOLERANCE

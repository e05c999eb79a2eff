"""Owner of a trial: the runner that has it, so that a killed runner's trials are detected on its host."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any

import psutil

TOLERANCE = 2.0
"""Tolerance in seconds between two readings of a process's start time, as clocks may be set."""


def new_owner() -> dict[str, Any]:
    """Return a unique identity of this runner: host, process, its start (s since 1970), and a token."""
    began = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": began, "run": uuid.uuid4().hex}


def is_runner_alive(owner: object, me: Mapping[str, Any]) -> bool | None:
    """Tell whether the runner `owner`, as stored in a trial, is alive; None if unknown on this host.

    `me`: this runner. An earlier runner of the same process has ended.
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

"""Read a user's file of Python in a process of its own, within a time limit.

What such a file does at import cannot be foreseen: it may end the process, raise what ends this program, or never
return. In a process of its own none of this reaches the others that are read with it.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

UNPICKLED = b"?"
"""Answer of a process that could not pickle what it read."""


class ReadingError(Exception):
    """The process that read a file gave no answer; the message says why."""


class NotPortable(Exception):
    """What was read cannot travel between processes."""


def can_fork() -> bool:
    """Tell whether a process of its own is possible here: not on Windows, and not beside threads that hold locks."""
    return hasattr(os, "fork") and threading.active_count() == 1


def apart(read: Callable[[], Any], within: float) -> Any:
    """Return what `read` returns in a forked process, which is ended after `within` seconds.

    Raises:
        ReadingError: it ended without an answer, or was ended.
        NotPortable: its answer cannot be pickled.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # native threads that wait for work hold no lock of Python
        child = os.fork()
    if not child:
        os.close(receive)
        _answer(read, send)
    os.close(send)
    try:
        answer = _received(receive, time.monotonic() + within)
    finally:
        os.close(receive)
        os.kill(child, signal.SIGKILL)  # it has answered, is late, or ended by itself and is not waited for yet
        _, status = os.waitpid(child, 0)
    if answer is None:
        raise ReadingError(f"did not come to its end within {within:g} s")
    if not answer:
        raise ReadingError(f"ended the process that read it ({_end(status)})")
    if answer == UNPICKLED:
        raise NotPortable
    try:
        return pickle.loads(answer)
    except Exception as error:
        raise NotPortable from error


def _answer(read: Callable[[], Any], send: int) -> None:
    """Do the work of the child, which never returns: nothing of the parent is to be run twice."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
        try:
            answer = pickle.dumps(read())
        except Exception:  # noqa: BLE001 (`read` handles what a file raises: this is the pickling)
            answer = UNPICKLED
        sys.stdout.flush()
        sys.stderr.flush()
        while answer:
            answer = answer[os.write(send, answer) :]
    finally:
        os._exit(0)


def _received(receive: int, until: float) -> bytes | None:
    """Return all that comes until the other end is closed; None if it is still open `until` then."""
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0:
        if select.select([receive], [], [], left)[0]:
            part = os.read(receive, 65536)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return None


def _end(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

"""Read a user's file of Python, an ablation or a search space, in a process of its own, within a time limit.

What such a file does at import cannot be foreseen: it may end the process, raise what ends this program, or never
return. In a process of its own none of this reaches the others that are read with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import ValidationError

from cifar_lab.errors import CifarLabError, shortened
from cifar_lab.text import printable

T = TypeVar("T")
WITHIN = 20.0
"""Seconds that a file may take to be read."""
BEGINNING = 10.0
"""Seconds that a new process may take to begin."""
UNPICKLED = b"?"
"""Answer of a process that could not pickle what it read."""


class ReadingError(Exception):
    """A file cannot be read, or the process that read it gave no answer: one line that names file, line and reason."""


class NotPortable(Exception):
    """What was read cannot travel between processes."""


def read_user_file(path: Path, read: Callable[[Path], T]) -> T:
    """Return what `read`, a function of a module, makes of a user's file, which is run in a process of its own.

    Raises:
        ReadingError: it is no regular file, or ended its process, or did not come to its end in `WITHIN` seconds.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ReadingError(f"{path.name}:1: a device or a pipe, not a file")
    try:
        answer: T = apart(partial(read, path), WITHIN)
    except NotPortable:  # it defines a class of its own for what it declares
        return read(path)
    except ReadingError as error:
        raise ReadingError(f"{path.name}:1: {error}") from error
    return answer


def run_file(path: Path, name: str) -> ModuleType:
    """Run a file as the module `name`, and return that.

    Raises:
        ReadingError: it raised something, of whatever kind.
        KeyboardInterrupt: the user's, not the file's.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leave nothing in a user's folder
    try:
        sys.modules[spec.name] = module  # dataclasses look their module up while it loads
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except KeyboardInterrupt as error:
        if not _is_of(error, path):
            raise
        raise ReadingError(f"{path.name}:{_line(error, path)}: {reason(error)}") from error
    except BaseException as error:
        raise ReadingError(f"{path.name}:{_line(error, path)}: {reason(error)}") from error
    finally:
        sys.dont_write_bytecode = bytecode
    return module


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, with the name of its class unless it is one of ours."""
    name = printable(type(error).__name__)
    if isinstance(error, ValidationError):
        return f"{name}: {_first_problem(error)}"
    try:
        text = str(error).strip()
    except BaseException as second:  # noqa: BLE001 (the file's own class may raise anything, and hides nothing)
        return f"{name}: its text cannot be made ({printable(type(second).__name__)})"
    first = shortened(printable((text.splitlines() or [""])[0] or name))
    return first if isinstance(error, CifarLabError) else f"{name}: {first}"


def _first_problem(error: ValidationError) -> str:
    """Return `model.width: Input should be a valid integer, got 'wide'`; pydantic's own message takes lines."""
    first = error.errors()[0]
    where = ".".join([error.title, *map(str, first["loc"])])
    return f"{where}: {first['msg']}, got {shortened(repr(first['input']), 80)}"


def _is_of(error: KeyboardInterrupt, path: Path) -> bool:
    """Tell whether the file itself raised it. Else the user did, while the file was read."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _is_file(frames[-1].filename, path) and "KeyboardInterrupt" in (frames[-1].line or "")


def _line(error: BaseException, path: Path) -> int:
    """Return the line of the file at which it broke; 1 where no line of it is known."""
    if isinstance(error, SyntaxError) and error.lineno and _is_file(error.filename or str(path), path):
        return error.lineno
    frames = traceback.walk_tb(error.__traceback__)  # `extract_tb` would read source lines, which may be the error
    lines = [number for frame, number in frames if _is_file(frame.f_code.co_filename, path)]
    return lines[-1] or 1 if lines else 1


def _is_file(name: str, path: Path) -> bool:
    """Tell whether `name` is the file at `path`: one of them may be relative."""
    return os.path.realpath(name) == os.path.realpath(path)


def can_fork() -> bool:
    """Tell whether this process may be forked: not on Windows, and not beside threads, which may hold locks."""
    return hasattr(os, "fork") and threading.active_count() == 1


def apart(read: Callable[[], Any], within: float) -> Any:
    """Return what `read` returns in another process, which is ended after `within` seconds.

    The process is forked where that is possible, else it is a new one, which takes half a second to begin.

    Raises:
        ReadingError: it ended without an answer, or was ended.
        NotPortable: `read` or its answer cannot be pickled.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    answer, code = (_forked if can_fork() else _begun)(read, within)
    if answer is None:
        raise ReadingError(f"did not come to its end within {within:g} s")
    if not answer:
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise ReadingError(f"ended the process that read it ({end})")
    if answer == UNPICKLED:
        raise NotPortable
    try:
        return pickle.loads(answer)
    except Exception as error:
        raise NotPortable from error


def _forked(read: Callable[[], Any], within: float) -> tuple[bytes | None, int]:
    """Return the answer of a forked process, None where it is late, and the code that it ended with."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # native threads that wait for work hold no lock of Python
        child = os.fork()
    if not child:
        try:
            os.close(receive)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
            answer = _answer(read)
            while answer:
                answer = answer[os.write(send, answer) :]
        finally:
            os._exit(0)  # nothing of the parent is to be run twice
    os.close(send)
    try:
        received = _received(receive, time.monotonic() + within)
    finally:
        os.close(receive)
        os.kill(child, signal.SIGKILL)  # it has answered, is late, or ended by itself and is not waited for yet
        _, status = os.waitpid(child, 0)
    return received, os.waitstatus_to_exitcode(status)


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


def _begun(read: Callable[[], Any], within: float) -> tuple[bytes | None, int]:
    """Return the answer of a new process, None where it is late, and the code that it ended with."""
    try:
        job = pickle.dumps(read)
    except Exception as error:
        raise NotPortable from error
    program = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from cifar_lab import reading"
    with tempfile.TemporaryDirectory(prefix="cifar-lab-") as folder:
        place = Path(folder) / "answer"
        words = pickle.dumps(sys.path) + pickle.dumps(str(place)) + job
        try:
            done = subprocess.run(
                [sys.executable, "-c", f"{program}; reading.serve()"],
                input=words,
                timeout=within + BEGINNING,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, 0
        return (place.read_bytes() if place.exists() else b""), done.returncode


def serve() -> None:
    """Do what standard input asks for, in the new process: the path of the answer's file, and the job, pickled."""
    place, read = pickle.load(sys.stdin.buffer), pickle.load(sys.stdin.buffer)
    Path(place).write_bytes(_answer(read))


def _answer(read: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps(read())
    except Exception:  # noqa: BLE001 (`read` handles what a file raises: this is the pickling)
        return UNPICKLED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()

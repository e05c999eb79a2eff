"""Read a user's Python file, an ablation or a search space, in a separate process, within a time limit.

The effects of importing such a file are unknown: it may end the process, raise an exception that would end this
program, or never return. In a separate process none of this affects other files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
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

from cifar_lab.errors import CifarLabError, first_line, first_problem, plain_rule, shortened
from cifar_lab.text import printable

T = TypeVar("T")
WITHIN = 20.0
"""Seconds allowed for reading a file."""
BEGINNING = 10.0
"""Seconds allowed for starting a new process."""
UNPICKLED = b"?"
"""Answer of a process that could not pickle its result."""


class ReadingError(Exception):
    """A file is unreadable, or its process gave no answer: one line that names file, line and reason."""


class NotPicklable(Exception):
    """A result cannot be pickled."""


def read_user_file(path: Path, read: Callable[[Path], T]) -> T:
    """Return the result of `read`, a module-level function, for a user's file, which runs in a separate process.

    Raises:
        ReadingError: it is not a regular file, ended its process, or did not finish within `WITHIN` seconds.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ReadingError(f"{path.name}:1: a device or a pipe, not a file")
    try:
        answer: T = apart(partial(read, path), WITHIN)
    except NotPicklable:  # it defines a class for its own declaration
        return read(path)
    except ReadingError as error:
        raise ReadingError(f"{path.name}:1: {error}") from error
    return answer


def run_file(path: Path, name: str) -> ModuleType:
    """Run a file as the module `name`, and return the module.

    Raises:
        ReadingError: it raised an exception of any kind.
        KeyboardInterrupt: raised by the user, not by the file.
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
        raise ReadingError(f"{path.name}:{_line(error, path)}: {error_line(error)}") from error
    except BaseException as error:
        raise ReadingError(f"{path.name}:{_line(error, path)}: {error_line(error)}") from error
    finally:
        sys.dont_write_bytecode = bytecode
    return module


def load_declaration(path: Path, name: str, kind: type[T]) -> tuple[T, str]:
    """Run a file, and return the object that it defines as `name`, with the docstring of the file.

    Raises:
        ReadingError: it raised an exception, or defines no such object of this kind; one line with the file's line.
    """
    module = run_file(path, f"_cifar_lab_{name.lower()}_{path.stem}")
    declared = getattr(module, name, None)
    if not isinstance(declared, kind):
        raise ReadingError(f"{path.name}:1: defines no {name} = {kind.__name__}(…)")
    return declared, inspect.getdoc(module) or ""


def error_line(error: BaseException) -> str:
    """Return the first line of an error's message, with its class unless it is one of this package."""
    name = printable(type(error).__name__)
    if isinstance(error, ValidationError):
        return f"{name}: {_first_problem(error)}"
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 (the file's own class may raise anything, and hides nothing)
        return f"{name}: its text cannot be made ({printable(type(second).__name__)})"
    first = shortened(printable(first_line(text) or name))
    return first if isinstance(error, CifarLabError) else f"{name}: {first}"


def _first_problem(error: ValidationError) -> str:
    """Return one line, `Recipe.model.width: should be an integer, got 'wide'`; an unknown name comes first."""
    first = first_problem(error.errors())
    where = ".".join([error.title, *map(str, first["loc"])])
    return f"{where}: {plain_rule(first['msg'])}, got {shortened(repr(first['input']), 80)}"


def _is_of(error: KeyboardInterrupt, path: Path) -> bool:
    """Tell whether the file raised it, and not the user while the file was read."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _is_file(frames[-1].filename, path) and "KeyboardInterrupt" in (frames[-1].line or "")


def _line(error: BaseException, path: Path) -> int:
    """Return the line of the file that raised the error; 1 if unknown."""
    if isinstance(error, SyntaxError) and error.lineno and _is_file(error.filename or str(path), path):
        return error.lineno
    frames = traceback.walk_tb(error.__traceback__)  # `extract_tb` would read source lines, which may be the cause
    lines = [number for frame, number in frames if _is_file(frame.f_code.co_filename, path)]
    return lines[-1] or 1 if lines else 1


def _is_file(name: str, path: Path) -> bool:
    """Tell whether `name` is the file at `path`; one of them may be relative."""
    return os.path.realpath(name) == os.path.realpath(path)


def can_fork() -> bool:
    """Tell whether this process can be forked: not on Windows, and not with threads, which may hold locks."""
    return hasattr(os, "fork") and threading.active_count() == 1


def apart(read: Callable[[], Any], within: float) -> Any:
    """Return the result of `read` in another process, which is killed after `within` seconds.

    The process is forked if possible, otherwise it is a new one, which takes half a second to start.

    Raises:
        ReadingError: it ended without an answer, or was killed.
        NotPicklable: `read` or its answer cannot be pickled.
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
        raise NotPicklable
    try:
        return pickle.loads(answer)
    except Exception as error:
        raise NotPicklable from error


def _forked(read: Callable[[], Any], within: float) -> tuple[bytes | None, int]:
    """Return the answer of a forked process, None if it is late, and its exit code."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # native threads that wait for work hold no Python lock
        child = os.fork()
    if not child:
        try:
            os.close(receive)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
            answer = _answer(read)
            while answer:
                answer = answer[os.write(send, answer) :]
        finally:
            os._exit(0)  # nothing of the parent may run twice
    os.close(send)
    try:
        received = _received(receive, time.monotonic() + within)
    finally:
        os.close(receive)
        os.kill(child, signal.SIGKILL)  # it has answered, is late, or has ended and not been waited for
        _, status = os.waitpid(child, 0)
    return received, os.waitstatus_to_exitcode(status)


def _received(receive: int, until: float) -> bytes | None:
    """Return all data until the other end is closed; None if it is still open at the time `until`."""
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0:
        if select.select([receive], [], [], left)[0]:
            part = os.read(receive, 65536)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return None


def _begun(read: Callable[[], Any], within: float) -> tuple[bytes | None, int]:
    """Return the answer of a new process, None if it is late, and its exit code."""
    try:
        job = pickle.dumps(read)
    except Exception as error:
        raise NotPicklable from error
    program = (
        "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
        "from cifar_lab.config import declaration_file; declaration_file.answer_request()"
    )
    with tempfile.TemporaryDirectory(prefix="cifar-lab-") as folder:
        place = Path(folder) / "answer"
        words = pickle.dumps(sys.path) + pickle.dumps(str(place)) + job
        try:
            done = subprocess.run(
                [sys.executable, "-c", program],
                input=words,
                timeout=within + BEGINNING,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, 0
        return (place.read_bytes() if place.exists() else b""), done.returncode


def answer_request() -> None:
    """Serve the request on standard input in the new process: the path of the answer's file, and the pickled job."""
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

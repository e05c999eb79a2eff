"""Standard streams that raise no traceback for a closed terminal or pipe, or a full disk."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import IO, Any, cast

QUIET = {errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF}
"""Write errors that mean that there is no reader: a closed pipe, a terminal that is gone."""


def prepare() -> None:
    """Open closed streams, and make every stream accept characters that its encoding lacks.

    A descriptor that is closed at the start would be reused for the first opened file, which would then receive the
    output. Python has None for the stream.
    """
    while (descriptor := _nothing()) <= 2:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: Any = getattr(sys, name)
        if stream is None:
            try:
                setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (it stays open)
            except OSError:
                setattr(sys, name, io.StringIO())
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if name == "stderr" else "replace")


def _nothing() -> int:
    """Return a new descriptor that discards its input; if the null device is unavailable, another that accepts it."""
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:
        return os.open("/", os.O_RDONLY)


def finish(code: int) -> int:
    """Flush the output; return the exit code, which is 1 if standard output was not written completely."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        code = refused(error) or code
    drop(sys.stdout)
    drop(sys.stderr)
    return code


def refused(error: OSError | ValueError) -> int:
    """Report that standard output could not be written, unless it has no reader; return exit code 1."""
    if isinstance(error, OSError) and error.errno not in QUIET:
        warn(f"cifar-lab: standard output cannot be written: {error.strerror}")
    return 1


def warn(line: str) -> None:
    """Print a line on standard error, ignoring errors."""
    steady.write(f"{line}\n")
    steady.flush()


def drop(stream: Any) -> None:
    """Discard buffered output that cannot be written, so that the interpreter does not fail at exit."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        except (OSError, ValueError):  # a stream without a descriptor is useless
            return


class _Steady(io.TextIOBase):
    """Current standard error, ignoring write errors, so that a study continues without a reader."""

    @property
    def _stream(self) -> Any:
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # not rich's own, which writes here

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError, AttributeError):
            return len(text)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError, AttributeError):
            return

    def isatty(self) -> bool:
        try:
            return bool(self._stream.isatty())
        except (OSError, ValueError, AttributeError):
            return False

    def fileno(self) -> int:
        return int(self._stream.fileno())


steady = cast(IO[str], _Steady())

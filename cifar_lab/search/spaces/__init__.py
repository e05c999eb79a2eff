"""One small file a search space, and how one is found: by the name of its file here, or as a file of the user's own.

Nothing here imports torch or Optuna: listing spaces is instant.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from pathlib import Path

from cifar_lab.errors import CifarLabError, SpaceError, nearest
from cifar_lab.search.space import Space

DEFAULT = "writeup"


def names() -> list[str]:
    """Of the built-in spaces, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def find(name_or_file: str) -> Space:
    """The built-in space of that name, or the `SPACE` of a .py file.

    Raises:
        SpaceError: there is none, or its file is broken; the message has the file's line.
    """
    if name_or_file in names():
        return _load(Path(__file__).parent / f"{name_or_file}.py")
    path = Path(name_or_file).expanduser()
    if path.suffix != ".py":
        raise SpaceError(f"no space named '{name_or_file}'{nearest(name_or_file, names())} (or a .py file)")
    if not path.is_file():
        raise SpaceError(f"no such file: {path}{nearest(path.stem, names())}")
    return _load(path)


def _load(path: Path) -> Space:
    """Run the file as a module of its own, and take its `SPACE`."""
    spec = importlib.util.spec_from_file_location(f"_cifar_lab_space_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leave nothing in a user's folder
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SpaceError(f"{path.name}:{_line(error, path)}: {_said(error)}") from error
    finally:
        sys.dont_write_bytecode = bytecode
    space = getattr(module, "SPACE", None)
    if not isinstance(space, Space):
        raise SpaceError(f"{path.name}:1: defines no SPACE = Space(…)")
    return space.model_copy(update={"name": path.stem})


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] or 1 if lines else 1


def _said(error: BaseException) -> str:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return first if isinstance(error, CifarLabError) else f"{type(error).__name__}: {first}"

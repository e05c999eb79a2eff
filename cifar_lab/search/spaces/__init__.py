"""One small file a search space, and how one is found: by the name of its file here, or as a file of the user's own.

Nothing here imports torch or Optuna: listing spaces is instant.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import sys
import traceback
from pathlib import Path

from cifar_lab.errors import CifarLabError, SpaceError, nearest
from cifar_lab.search.draw import Draw
from cifar_lab.search.space import Space

DEFAULT = "writeup"
LONGEST = 300
"""Characters of an error in a file that are shown."""


def names() -> list[str]:
    """Of the built-in spaces, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def find(name_or_file: str) -> Space:
    """Return the built-in space of that name, or the `SPACE` of a .py file.

    Raises:
        SpaceError: there is none, or its file is broken; the message has the file's line.
    """
    if name_or_file in names():
        return _load(Path(__file__).parent / f"{name_or_file}.py")
    if not name_or_file.endswith(".py"):
        raise SpaceError(f"no space named {name_or_file!r:.80}{nearest(name_or_file[:80], names())} (or a .py file)")
    try:
        path = Path(name_or_file).expanduser()
        if not path.is_file():
            raise SpaceError(f"no such file: {path}{nearest(path.stem, names())}")
    except (OSError, RuntimeError, ValueError) as error:
        raise SpaceError(f"--space {name_or_file!r:.80}: {_first_line(error)}") from error
    return _load(path.absolute())


def require_usable(space: Space, *, draws: int = 3) -> None:
    """Ask what a search asks of a space, for a few candidates: a file may hold dimensions of its own kind.

    Raises:
        SpaceError: a dimension cannot answer, or its answers are not of the space.
    """
    try:
        space.digest(), space.paths(), space.params_of(space.baseline)
        chance = random.Random(0)
        for _ in range(draws):
            draw = Draw(chance)
            diff = space.suggest(draw)
            if space.baseline.override(diff) != space.baseline.override(space.diff_of(draw.params)):
                raise SpaceError("the parameters of a candidate come to another recipe than the candidate")
    except SpaceError as error:
        raise SpaceError(f"space '{space.name}': {_first_line(error)}") from error
    except Exception as error:  # whatever a dimension of the user's own raises
        raise SpaceError(f"space '{space.name}' cannot be searched: {_said(error)}") from error


def _load(path: Path) -> Space:
    """Run the file as a module of its own, and take its `SPACE`."""
    spec = importlib.util.spec_from_file_location(f"_cifar_lab_space_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leave nothing in a user's folder
    try:
        sys.modules[spec.name] = module  # dataclasses look their module up while it loads
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an exception of any kind is the file's: SystemExit, GeneratorExit, its own
        raise SpaceError(f"{path.name}:{_line(error, path)}: {_said(error)}") from error
    finally:
        sys.dont_write_bytecode = bytecode
    space = getattr(module, "SPACE", None)
    if not isinstance(space, Space):
        raise SpaceError(f"{path.name}:1: defines no SPACE = Space(…)")
    try:
        return space.model_copy(update={"name": path.stem})
    except Exception as error:  # a Space that was made without its checks
        raise SpaceError(f"{path.name}:1: SPACE is not whole: {_said(error)}") from error


def _line(error: BaseException, path: Path) -> int:
    """Return the line of the file at which an error arose, 1 where none of its own lines is known."""
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    frames = traceback.walk_tb(error.__traceback__)  # `extract_tb` would read source lines, which may be the error
    lines = [number for frame, number in frames if frame.f_code.co_filename == str(path)]
    return lines[-1] or 1 if lines else 1


def _said(error: BaseException) -> str:
    return _first_line(error) if isinstance(error, CifarLabError) else f"{_kind(error)}: {_first_line(error)}"


def _kind(error: BaseException) -> str:
    return type(error).__name__ if type(error).__name__.isprintable() else "an exception"


def _first_line(error: BaseException) -> str:
    """Return what an error says in its first line; the class of one whose text cannot be made."""
    try:
        text = str(error).strip()
    except BaseException as second:  # noqa: BLE001 (the file's own class may raise anything, and hides nothing)
        return f"its text cannot be made ({type(second).__name__})"
    first = next(iter(text.splitlines()), "") or type(error).__name__
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in first)[:LONGEST]

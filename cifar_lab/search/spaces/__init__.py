"""Search spaces, one file each, found by file name here, or as a user's own file.

Neither torch nor Optuna is imported, so that listing spaces is instant.
"""

from __future__ import annotations

import random
from pathlib import Path

from cifar_lab.config import declaration_file
from cifar_lab.errors import SpaceError, nearest
from cifar_lab.search.dimension import RandomTrial
from cifar_lab.search.space import Space


def space_names() -> list[str]:
    """Return the names of the built-in spaces, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def find_space(name_or_file: str) -> Space:
    """Return the built-in space of this name, or the `SPACE` of a .py file.

    A user's file is read, and its dimensions are asked for a few candidates, within a time limit.

    Raises:
        SpaceError: there is none, its file is broken, or it cannot be searched; the message has the file's line.
    """
    if name_or_file in space_names():
        return _sound(_load(Path(__file__).parent / f"{name_or_file}.py"))
    if not name_or_file.endswith(".py"):
        raise SpaceError(
            f"no space named {name_or_file!r:.80}{nearest(name_or_file[:80], space_names())} (or a .py file)"
        )
    try:
        path = Path(name_or_file).expanduser()
        if not path.is_file():
            raise SpaceError(f"no such file: {path}{nearest(path.stem, space_names())}")
    except (OSError, RuntimeError, ValueError) as error:
        raise SpaceError(f"--space {name_or_file!r:.80}: {declaration_file.error_line(error)}") from error
    try:
        return _sound(declaration_file.read_user_file(path.absolute(), _load_usable))
    except declaration_file.ReadingError as error:
        raise SpaceError(str(error)) from error


def require_usable_space(space: Space, *, draws: int = 3) -> None:
    """Try the operations of a search on a space for a few candidates: a file may define its own kinds of dimension.

    Raises:
        SpaceError: a dimension raises an error, or its values are outside of the space.
    """
    try:
        space.digest(), space.paths(), space.params_of(space.baseline)
        chance = random.Random(0)
        for _ in range(draws):
            draw = RandomTrial(chance)
            diff = space.suggest(draw)
            if space.baseline.override(diff) != space.baseline.override(space.diff_of(draw.params)):
                raise SpaceError("the parameters of a candidate come to another recipe than the candidate")
    except SpaceError as error:
        raise SpaceError(f"space '{space.name}': {declaration_file.error_line(error)}") from error
    except Exception as error:  # any exception of a user's dimension
        raise SpaceError(f"space '{space.name}' cannot be searched: {declaration_file.error_line(error)}") from error


def _load(path: Path) -> Space | SpaceError:
    """Run the file as a module, and return its `SPACE`, or the error if it has none."""
    try:
        space, _ = declaration_file.load_declaration(path, "SPACE", Space)
    except declaration_file.ReadingError as error:
        return SpaceError(str(error))
    try:
        return space.model_copy(update={"name": path.stem})
    except Exception as error:  # noqa: BLE001 (a Space that was made without its checks)
        return SpaceError(f"{path.name}:1: SPACE is not whole: {declaration_file.error_line(error)}")


def _load_usable(path: Path) -> Space | SpaceError:
    """Return the `SPACE` of a file once it answers what a search asks of it; what is wrong with it is returned."""
    space = _load(path)
    try:
        if isinstance(space, Space):
            require_usable_space(space)
    except SpaceError as error:
        return error
    return space


def _sound(space: Space | SpaceError) -> Space:
    if isinstance(space, SpaceError):
        raise space
    return space

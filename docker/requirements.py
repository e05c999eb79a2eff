"""Print what pyproject.toml asks for, one a line: `requirements.py pyproject.toml postgres` with that extra.

Images install this before they have the source, so that a change of the source installs nothing again.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, *extras: str) -> list[str]:
    """The dependencies of the project and of its `extras`, sorted.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]
    return sorted(set(wanted))


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), *sys.argv[2:])))

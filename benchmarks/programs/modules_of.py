"""Which modules a command of the lab loads: `modules_of.py FILE WORD…` runs `cifar-lab WORD…`, then lists them in FILE.

`modules_of.py FILE` without more imports what the file lists, in its order: what the command costs before it does
anything. What cannot be imported by its name is passed over.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from pathlib import Path


def record(path: Path, words: list[str]) -> int:
    from cifar_lab.cli import run

    before = set(sys.modules)
    code = run(words)
    path.write_text("\n".join(name for name in list(sys.modules) if name not in before and name != "__mp_main__"))
    return code


def load(path: Path) -> None:
    for name in path.read_text().splitlines():
        with suppress(ImportError, AttributeError):  # made by code, not by a file
            importlib.import_module(name)


if __name__ == "__main__":
    file, *command = sys.argv[1:]
    sys.exit(record(Path(file), command) if command else load(Path(file)))

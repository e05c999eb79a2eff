"""Arguments of the command line, and the sizes derived from them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Extent and data of the measurements."""

    is_quick: bool
    data: str
    """`synthetic`, or the absolute path of a folder or zip."""
    scratch: Path
    """An empty folder for everything that contenders write."""
    cell_epochs: int | None = None
    """Epochs of the whole cell; None: those of its scale."""
    cell_images: int | None = None
    """Training images of the whole cell; None: all."""
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)

    def size(self, full: T, quick: T) -> T:
        """Return a number of steps, images or cells; `quick` for a test that everything works."""
        return quick if self.is_quick else full

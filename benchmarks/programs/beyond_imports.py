"""Measure the time of a command of the lab beyond its imports: `beyond_imports.py WORD…` runs `cifar-lab WORD…` here.

Import time is the time that the main thread spends finding and loading modules, wherever in the command this happens.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from stopwatch import say


class Imports:
    """Sum of the durations of outermost imports; nested imports are included in them."""

    def __init__(self) -> None:
        self.seconds, self._is_inside = 0.0, False

    def timed(self, load: Callable[..., Any]) -> Callable[..., Any]:
        def loading(*asked: Any) -> Any:
            if self._is_inside or threading.current_thread() is not threading.main_thread():
                return load(*asked)
            self._is_inside, began = True, time.perf_counter()
            try:
                return load(*asked)
            finally:
                self.seconds += time.perf_counter() - began
                self._is_inside = False

        return loading


def main(words: list[str]) -> int:
    bootstrap: Any = importlib._bootstrap  # type: ignore[attr-defined]
    imports, began = Imports(), time.perf_counter()
    bootstrap._find_and_load = imports.timed(bootstrap._find_and_load)
    from cifar_lab.cli import run

    code = run(words)
    whole = time.perf_counter() - began
    say({"beyond": whole - imports.seconds, "imports": imports.seconds})
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

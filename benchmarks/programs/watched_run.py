"""Run a command, and watch the memory of its whole family of processes: `watched_run.py -- COMMAND WORD…` (Linux)."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import psutil
from family_memory import GONE, Look, look, told
from stopwatch import say

EVERY = 0.5
"""Seconds between two samples."""


def main() -> None:
    process = subprocess.Popen(sys.argv[sys.argv.index("--") + 1 :], stdout=sys.stderr, stdin=subprocess.DEVNULL)
    parent, looks = psutil.Process(process.pid), list[Look]()
    while process.poll() is None:
        with suppress(*GONE):
            looks.append(look([parent, *parent.children(recursive=True)]))
        time.sleep(EVERY)
    if process.returncode:
        sys.exit(process.returncode)
    say(told(looks))


if __name__ == "__main__":
    main()

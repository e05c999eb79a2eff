"""Duration for which OpenMP's threads wait for each other in a loop before they sleep."""

from __future__ import annotations

import os

VARIABLE, SPIN = "GOMP_SPINCOUNT", "10000"
"""By default GNU's OpenMP turns 300,000 times, which takes longer than a step of a small network.

Beside other programs that keeps the thread that is waited for from its core: steps take several times as long
(`benchmarks/busy_processor.py`).
"""


def spin_briefly() -> None:
    """Shorten the wait of processes that load torch from now on, unless the user has chosen one."""
    if not {VARIABLE, "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ[VARIABLE] = SPIN

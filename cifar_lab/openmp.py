"""Duration for which OpenMP's threads wait for each other in a loop before they sleep."""

from __future__ import annotations

import os

from cifar_lab import process_settings

VARIABLE, SPIN = "GOMP_SPINCOUNT", "10000"
"""Turns of the loop; 300,000 by default (manual of GNU libgomp).

Beside other programs these keep the thread that is waited for from its core, and a step takes twice as long as with
this number (`benchmarks/busy_processor.py`).
"""


def spin_briefly() -> None:
    """Shorten the wait of processes that load torch from now on, unless the user has chosen one."""
    if not {VARIABLE, "OMP_WAIT_POLICY"} & os.environ.keys():
        process_settings.set_variables({VARIABLE: SPIN})

"""Time training steps with several threads beside other programs, by how long OpenMP's threads spin for each other.

    python benchmarks/busy_processor.py --rounds 3

Each measurement is a process of its own, as the variables are read when torch is loaded. Beside it: nothing, or as many
busy processes as there are cores, each of a session of its own as those of other users. Forward and backward passes of
two blocks on 128 images of noise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from itertools import product

import torch

from cifar_lab.openmp import SPIN, VARIABLE

STEPS = """
import sys, time, torch
from torch.nn import functional as F
from cifar_lab.config.recipe import Recipe
from cifar_lab.models.resnet import build_resnet

net = build_resnet(Recipe().override({"model.width": int(sys.argv[1]), "model.blocks": [1, 1]}).model, seed=0)
images, labels = torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last), torch.arange(128) % 10
times, end = [], None
while end is None or time.perf_counter() < end or len(times) < 5:
    began = time.perf_counter()
    F.cross_entropy(net(images), labels).backward()
    times.append(time.perf_counter() - began)
    end = end or time.perf_counter() + 3
print(sorted(times[1:])[len(times) // 2])
"""
BUSY = "while True: pass"
SETTINGS: dict[str, dict[str, str]] = {
    "OpenMP's default": {},
    "spinning 30,000 times": {VARIABLE: "30000"},
    f"spinning {int(SPIN):,} times": {VARIABLE: SPIN},
    "spinning 1,000 times": {VARIABLE: "1000"},
    "never": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def seconds(setting: dict[str, str], width: int) -> float:
    """Return the median seconds of a step in a process with these variables."""
    cleared = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", STEPS, str(width)]
    return float(subprocess.run(command, env=cleared | setting, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 16])
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{torch.get_num_threads()} threads, {cores} cores, {torch.backends.cpu.get_cpu_capability()}")
    for width, is_busy in product(options.widths, (False, True)):
        taken: dict[str, list[float]] = {name: [] for name in SETTINGS}
        with ExitStack() as stack:
            for _ in range(cores if is_busy else 0):
                stack.callback(subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True).kill)
            for _ in range(options.rounds):
                for name, setting in SETTINGS.items():
                    taken[name].append(seconds(setting, width))
        print(f"width {width}, {'beside busy processes' if is_busy else 'alone'}")
        base = taken["OpenMP's default"]
        for name, times in taken.items():
            ratios = sorted(own / first for own, first in zip(times, base, strict=True))
            median = statistics.median(ratios)
            print(f"  {name:22} {1000 * statistics.median(times):7.0f} ms  {median:5.2f} "
                  f"({ratios[0]:.2f} to {ratios[-1]:.2f}) times the default")  # fmt: skip


if __name__ == "__main__":
    main()

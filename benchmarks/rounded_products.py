"""Time training steps in bf16 and fp16 on a processor without units for them, in three ways, interleaved.

    python benchmarks/rounded_products.py --rounds 5

`rounded`: products in fp32 of rounded operands, as the lab computes them; `torch`: torch's own kernels; both against
fp32. One thread, a forward and a backward pass of the Efficient ResNet on 128 images of noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch.nn import functional as F

from cifar_lab.config.recipe import Recipe
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train.precision import cpu_has_bf16, rounding

BATCH, CPU = 128, torch.device("cpu")


WAYS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "fp32": lambda: torch.autocast("cpu", enabled=False),
    "bf16, rounded": lambda: rounding(torch.bfloat16),
    "bf16, torch": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "fp16, rounded": lambda: rounding(torch.float16),
    "fp16, torch": lambda: torch.autocast("cpu", dtype=torch.float16),
}


def step_in(way: Callable[[], AbstractContextManager[object]], width: int) -> Callable[[], None]:
    """Return a function that takes a forward and a backward pass of a network of this width."""
    net = build_resnet(Recipe().override({"model.width": width}).model, seed=0, device=CPU)
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, generator=noise).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,), generator=noise)

    def step() -> None:
        net.zero_grad()
        with way():
            logits = net(images)
        F.cross_entropy(logits.float(), labels).backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = {name: step_in(way, options.width) for name, way in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(options.rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - began)
    units = "with" if cpu_has_bf16() else "without"
    print(f"width {options.width}, one thread, {torch.backends.cpu.get_cpu_capability()}, {units} units for bf16")
    for name, taken in times.items():
        ratios = [own / base for own, base in zip(taken, times["fp32"], strict=True)]
        low, median, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{name:14} {statistics.median(taken):7.2f} s   {median:5.2f} ({low:.2f} to {high:.2f}) times fp32")


if __name__ == "__main__":
    main()

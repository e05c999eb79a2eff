"""Measure the peak throughput of the processor: square matrix products in bf16 and fp32, the best of several."""

from __future__ import annotations

import time
from argparse import ArgumentParser

import torch
from stopwatch import say


def flops_per_second(size: int, dtype: torch.dtype, products: int) -> float:
    """Count two FLOPs per multiply-accumulate; memory is allocated before, and the first product is a warm-up."""
    a, b, out = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype), torch.empty(size, size).to(dtype)
    seconds = []
    for _ in range(products + 1):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds[1:])


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--products", type=int, default=5, help="of which the quickest counts")
    asked = parser.parse_args()
    types = {"bf16": torch.bfloat16, "fp32": torch.float32}
    found = {name: flops_per_second(asked.size, dtype, asked.products) for name, dtype in types.items()}
    say({**found, "fastest": max(found.values())})

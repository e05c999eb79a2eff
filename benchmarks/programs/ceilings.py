"""Measure the peak throughput of the processor: square matrix products in bf16 and fp32, the best of several."""

from __future__ import annotations

import time
from argparse import ArgumentParser

import torch
from stopwatch import say


def flops_per_second(size: int, dtype: torch.dtype, products: int) -> float:
    """Count two FLOPs per multiply-accumulate; memory is allocated before, and the first product is a warm-up."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype)
    torch.mm(a, b, out=out)
    best = float("inf")
    for _ in range(products):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--products", type=int, default=5, help="of which the quickest counts")
    asked = parser.parse_args()
    found = {
        name: flops_per_second(asked.size, dtype, asked.products)
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
    }
    say({**found, "fastest": max(found.values())})


if __name__ == "__main__":
    main()

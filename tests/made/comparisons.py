"""Rows and comparisons made by hand."""

from __future__ import annotations

from typing import Any

from cifar_lab.report import table_notes
from cifar_lab.results.comparison import Comparison, ComparisonRow
from cifar_lab.results.stats.convergence import EpochsToThreshold

SEEDS = range(5)


def row(variant: str = "r4", **changed: Any) -> ComparisonRow:
    fields: dict[str, Any] = {
        "against": "r16",
        "n": 5, "mean": 0.91234, "std": 0.0012, "mean_interval": (0.910, 0.914), "difference": -0.00456,
        "difference_std": 0.0034, "pairs": 5, "interval": (-0.0088, -0.0003), "level": 0.95, "welch": (-0.01, 0.001),
        "correlation": 0.31, "effect": -1.07, "p_value": 0.0625, "p_holm": 0.125, "p_exact": True,
        "p_smallest": 0.0625, "verdict": None, "reason": None, "seeds_needed": {"0.1": 93, "0.2": 25, "0.5": None},
        "values": dict.fromkeys(SEEDS, 0.91234), "differences": dict.fromkeys(SEEDS, -0.00456),
        "missing": 0, "running": 0, "failed": 0, "diverged": 0,
        "mixed_execution": False, "parameters": 4_699_290, "parameters_trained": 4_699_290, "macs": 798_690_304,
        "seconds": 3661.4, "images_seen": 9e6,
    }  # fmt: skip
    return ComparisonRow(variant=variant, **(fields | changed))


def comparison(*rows: ComparisonRow, **changed: Any) -> Comparison:
    fields: dict[str, Any] = {
        "ablation": "se_ratio", "scale": "writeup", "protocol": "holdout", "metric": "test/acc", "control": "r16",
        "data": "CIFAR-10", "overrides": {}, "invocation": "20261122T210000.000-se_ratio", "invocations": 1,
        "margin": 0.002,
    }  # fmt: skip
    return Comparison(rows=rows or (CONTROL, row()), **(fields | changed))


UNCOMPARED: dict[str, Any] = {
    "difference": None, "difference_std": None, "pairs": 0, "interval": None, "level": None, "welch": None,
    "correlation": None, "effect": None, "p_value": None, "p_holm": None, "p_exact": None, "p_smallest": None,
    "differences": {}, "seeds_needed": {},
}  # fmt: skip
CONTROL = row("r16", against=None, mean=0.9169, **UNCOMPARED)
NOTHING = row(
    "r2", n=0, mean=None, std=None, mean_interval=None, values={}, seconds=None, missing=5,
    reason="no seed is finished in both", **UNCOMPARED,
)  # fmt: skip


def text(of: Comparison) -> str:
    return "\n".join([*table_notes.header(of), *table_notes.footer(of)])


def reached(mean: float | None, reached: int, of: int = 5) -> EpochsToThreshold:
    return EpochsToThreshold(mean=mean, reached=reached, of=of)

"""Sections of the benchmarks' page made by hand."""

from __future__ import annotations

from typing import Any

from side_by_side.results import Absent, Entry, Goal, Section, Spread, Table

PLAIN, LAB = Spread((380.0, 500.0, 410.0)), Spread((1050.0, 1260.0, 1200.0))


def goal(**changed: Any) -> Goal:
    """A speed that was to be 2.8 times the plain loop's and is 2.76."""
    fields: dict[str, Any] = {"what": "speed over the plain loop's", "at": "least", "limit": 2.8, "unit": "×",
                              "measured": Spread((2.76, 2.52, 2.93))}  # fmt: skip
    return Goal(**(fields | changed))


def made(**changed: Any) -> dict[str, Any]:
    return {
        "command": "python benchmarks/bench.py --only training", "date": "2026-11-24 08:00 UTC", "rounds": 3,
        "is_quick": False, "data": "images: synthetic, not CIFAR-10, 2,800 to train on", "hardware": "AMD EPYC",
        "versions": "python 3.11.7, torch 2.15.0", "commit": "0123456789ab", "busy": 0.1, "cores": 2, "has_bf16": True,
        "minutes": 12.3, **changed,
    }  # fmt: skip


def section(*goals: Goal, **changed: Any) -> Section:
    rows = {"plain loop": PLAIN, "Lightning": Absent("not installed"), "cifar-lab": LAB}
    fields: dict[str, Any] = {
        "name": "training", "title": "Training", "told": "Images a second.",
        "tables": (Table("width 16", "images/s", rows, against="plain loop"),),
    }  # fmt: skip
    return Section(**(fields | changed), goals=goals)


def entry(*goals: Goal, circumstances: dict[str, Any] | None = None, **changed: Any) -> Entry:
    return Entry(made=made(**(circumstances or {})), section=section(*goals, **changed))

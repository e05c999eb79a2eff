"""Studies made by hand, and searches."""

from __future__ import annotations

from typing import Any

from made.comparisons import CONTROL, comparison, row

from cifar_lab.inspect.progress import CellProgress
from cifar_lab.report.ablation_page import AblationPage, ClaimSummary, VariantSummary
from cifar_lab.report.importance_table import ImportanceSummary
from cifar_lab.report.sweep_page import DimensionSummary, SweepPage, TrialSummary
from cifar_lab.results.comparison import ComparisonRow
from cifar_lab.store.invocation import CellRef

EPOCHS = 20
DIFFERENCES = {0: -0.0061, 1: -0.0038, 2: -0.0052, 3: -0.0021, 4: -0.0056}
WORSE = row(
    verdict="worse", differences=DIFFERENCES, difference=sum(DIFFERENCES.values()) / 5,
    values={seed: 0.9169 + value for seed, value in DIFFERENCES.items()},
)  # fmt: skip
LOST = row(
    "off", n=0, mean=None, std=None, mean_interval=None, values={}, difference=None, differences={}, pairs=0,
    interval=None, verdict="diverged", reason="the variant diverged in every seed", diverged=3, seconds=None,
)  # fmt: skip
ONE_SEED = row(
    n=1, pairs=1, std=None, mean_interval=None, interval=None, values={0: 0.9123}, difference=-0.0046,
    differences={0: -0.0046}, verdict="undecided", reason="one seed: no deviation, no interval",
)  # fmt: skip


def curve(end: float, epochs: int = EPOCHS) -> list[tuple[int, float]]:
    """An accuracy that rises from a tenth to `end`."""
    return [(epoch, 0.1 + (end - 0.1) * epoch / epochs) for epoch in range(1, epochs + 1)]


def curves(
    of: ComparisonRow, split: str = "val", epochs: int = EPOCHS
) -> dict[str, dict[int, list[tuple[int, float]]]]:
    """Return curves with all epochs of finished cells, and the first quarter of diverged ones."""
    ends = {seed: curve(value, epochs) for seed, value in of.values.items()}
    seeds = iter(range(100))
    for _ in range(of.diverged):
        seed = next(seed for seed in seeds if seed not in ends)
        ends[seed] = curve(0.4, epochs)[: max(1, epochs // 4)]
    losses = {seed: [(epoch, 2 * (1 - value)) for epoch, value in values] for seed, values in ends.items()}
    rates = {seed: [(epoch, 0.1 * (1 - (epoch - 1) / epochs)) for epoch, _ in ends[seed]] for seed in ends}
    return {"lr": rates, f"{split}/acc": ends, "train/loss": losses, f"{split}/loss": losses}


def cell(variant: str, seed: int, state: Any, fingerprint: str = "f" * 64, error: str | None = None) -> CellProgress:
    """A cell of a page."""
    asked = CellRef(
        variant=variant, seed=seed, fingerprint=fingerprint, recipe="", parameters=0, parameters_trained=0, macs=0
    )  # fmt: skip
    return CellProgress(asked=asked, state=state, error=error)


def cells(of: ComparisonRow) -> list[CellProgress]:
    """The finished ones by their seeds, the others behind them."""
    seeds = sorted(of.values)
    states = ["finished"] * len(seeds)
    for state in ("diverged", "failed", "running", "missing"):
        states += [state] * getattr(of, state)
    more = range(max(seeds, default=-1) + 1, 100)
    return [cell(of.variant, seed, state) for seed, state in zip([*seeds, *more], states, strict=False)]


def study(*rows: ComparisonRow, epochs: int = EPOCHS, split: str = "val", **changed: Any) -> AblationPage:
    """Return a study of these rows, with matching curves and cells."""
    rows = rows or (CONTROL, WORSE)
    fields: dict[str, Any] = {
        "comparison": comparison(*rows),
        "question": "Which reduction ratio?",
        "source": "the tests",
        "variants": tuple(
            VariantSummary(name=each.variant, diff={"model.se.reduction": 4}, parameters=each.parameters)
            for each in rows
        ),
        "findings": (ClaimSummary(quote="4 is lower", source="stage 9", status="supported", compares="r16 > r4"),),
        "curves": {each.variant: curves(each, split, epochs) for each in rows},
        "cells": tuple(cell for each in rows for cell in cells(each)),
        "provenance": (("command", "cifar-lab run-ablation se_ratio"), ("data", "CIFAR-10, sha256 " + "c" * 64)),
        "reproduce": ("git checkout 0123", "cifar-lab run-ablation se_ratio"),
    }
    return AblationPage(**(fields | changed))


# Searches

WIDTH = DimensionSummary(name="model.width", words="16 to 96 by 8", low=16.0, high=96.0)
RATE = DimensionSummary(name="rate", words="0.01 to 1, log", low=0.01, high=1.0, is_log=True)
NAME = DimensionSummary(name="optim.name", words="sgd, adam", labels=("sgd", "adam"))
TAKEN = {"model.width": 32, "rate": 0.1, "optim.name": "sgd"}


def trial(number: int, value: float | None = None, **changed: Any) -> TrialSummary:
    """One with a value; or of another state, without."""
    fields: dict[str, Any] = {
        "state": "trained", "parameters": 1_000_000 * (number + 1), "params": TAKEN, "diff": {"model.width": 32},
    }  # fmt: skip
    return TrialSummary(number=number, value=value, **(fields | changed))


def search(*trials: TrialSummary, **changed: Any) -> SweepPage:
    """Return a search with these trials; `importances`: shares by evaluator and dimension."""
    shares = changed.pop("importances", {})
    fields: dict[str, Any] = {
        "study": "wide", "question": "Which network?", "space": "writeup", "scale": "small", "data": "CIFAR-10",
        "max_params": 5_000_000, "dimensions": (WIDTH, RATE, NAME),
        "importance": ImportanceSummary(shares=shares, needed={"fanova": 8, "ped_anova": 20}),
    }  # fmt: skip
    return SweepPage(trials=trials, **(fields | changed))

"""Compare measurements on a GPU with the goals for an H100 at batch 128."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from side_by_side.goal import Goal
from side_by_side.spread import Absent, Found, Spread, by_round

from cifar_lab.train import loop
from on_gpu.ways import BEST, PLAIN

EPOCHS, STEPS = 200, 391
"""A cell under the writeup's protocol: all 50,000 images, in batches of 128."""
Results = Mapping[str, Any]


def goals(results: Results) -> list[Goal]:
    """Return every goal, with its measurement or the reason for its absence."""
    best, plain = row(results, 64, BEST.title), row(results, 64, PLAIN.title)
    return [
        Goal(what="graph + compiled, width 64", at="least", limit=36_000, unit="images/s", measured=_rate(best)),
        Goal(what="its share of the bf16 product", at="least", limit=21, unit="%", measured=_share(best)),
        Goal(
            what="its speed over the textbook loop with images on the device", at="least", limit=2.5, unit="×",
            measured=_over(plain, best),
        ),
        Goal(
            what="graph + compiled, width 16", at="least", limit=150_000, unit="images/s",
            measured=_rate(row(results, 16, BEST.title)),
        ),
        Goal(
            what="2 to 4 cells side by side, width 64 (lanes, an experiment, count)",
            at="least", limit=45_000, unit="images/s together",
            measured=_together(results),
        ),
        Goal(
            what="checks of a step in which the host waits for the device", at="most", limit=0, unit="checks",
            measured=_waits(results),
        ),
        Goal(
            what="checkpoints", at="most", limit=2, unit="% of the wall clock",
            measured=_of_a_cell(results, "saving"),
        ),
        Goal(
            what="input and tracking", at="most", limit=5, unit="% of the wall clock",
            measured=_of_a_cell(results, "input"),
        ),
        Goal(
            what="a cell of 200 epochs under the writeup's protocol", at="most", limit=6, unit="minutes",
            measured=_of_a_cell(results, "minutes"),
        ),
    ]  # fmt: skip


def row(results: Results, width: int, way: str) -> dict[str, Any] | None:
    """Return the last row of the speed table for a width and a way."""
    rows = [each for each in results.get("speed", {}).get("rows", []) if (each["width"], each["way"]) == (width, way)]
    return rows[-1] if rows else None


def _rate(of: dict[str, Any] | None) -> Found:
    if of is None:
        return Absent("not run")
    if of.get("remark"):
        return Absent(f"no graph: {of['remark']}")
    return Spread(tuple(1000 * of["batch"] / ms for ms in of["ms"]))


def _share(of: dict[str, Any] | None) -> Found:
    rate = _rate(of)
    if of is None or isinstance(rate, Absent):
        return rate
    if not of.get("product"):
        return Absent("no product was measured beside it")
    flops = of["tflops"] / of["images_per_second"]  # of an image, in TFLOP
    return Spread(tuple(100 * flops * each / of["product"] for each in rate.values))


def _over(one: dict[str, Any] | None, other: dict[str, Any] | None) -> Found:
    return by_round(lambda a, b: b / a, _rate(one), _rate(other))


def _together(results: Results) -> Found:
    rates = [
        each["images_per_second"] for each in results.get("processes", {}).get("rows", [])
        if each["width"] == 64 and 2 <= each["processes"] <= 4
    ]  # fmt: skip
    rates += [
        each["images_per_second"] for each in results.get("speed", {}).get("rows", [])
        if each["width"] == 64 and each["way"].startswith(("2 lanes", "4 lanes"))
    ]  # fmt: skip
    return Spread((max(rates),)) if rates else Absent("not run")


def _waits(results: Results) -> Found:
    checks = [
        each for each in results.get("correctness", {}).get("rows", [])
        if each["check"].startswith("no wait in") and each["passed"] is not None
    ]  # fmt: skip
    return Spread((float(sum(not each["passed"] for each in checks)),)) if checks else Absent("not run")


def cell(results: Results) -> dict[str, float] | str:
    """Return the seconds of a 200-epoch cell and of its parts, extrapolated; or what is missing for it."""
    best, beside = row(results, 64, BEST.title), results.get("beside", {})
    names = ("input_ms", "evaluation_ms", "journal_ms", "checkpoint_ms")
    if best is None or isinstance(_rate(best), Absent):
        return f"{BEST.title}, width 64, was not measured"
    if missing := [name for name in names if name not in beside]:
        return f"{', '.join(missing)} not measured"
    ms = sorted(best["ms"])[len(best["ms"]) // 2]
    steps, journal = EPOCHS * STEPS * ms / 1000, EPOCHS * beside["journal_ms"] / 1000
    # The test images, and half as many of the training images: what is looked at after each epoch.
    evaluation = EPOCHS * 1.5 * beside["evaluation_ms"] / 1000
    save = beside["checkpoint_ms"] / 1000
    without = steps + evaluation + journal
    every = max(without / EPOCHS, save / loop.SAVING_SHARE)
    saving = save * (1 + without / every)
    total = without + saving
    return {
        "total": total, "steps": steps, "evaluation": evaluation, "journal": journal, "saving": saving,
        "input": EPOCHS * STEPS * beside["input_ms"] / 1000,
    }  # fmt: skip


def _of_a_cell(results: Results, what: str) -> Found:
    parts = cell(results)
    if isinstance(parts, str):
        return Absent(parts)
    values: dict[str, Callable[[dict[str, float]], float]] = {
        "saving": lambda p: 100 * p["saving"] / p["total"],
        "input": lambda p: 100 * (p["input"] + p["journal"]) / p["total"],
        "minutes": lambda p: p["total"] / 60,
    }
    return Spread((values[what](parts),))

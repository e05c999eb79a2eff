"""Compare measurements of `gpu.py` with the goals for an H100 at batch 128, and write docs/gpu.md from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from markdown_table import table
from side_by_side.page import tally
from side_by_side.results import Absent, Found, Goal, Spread, by_round, shown

from cifar_lab.train import loop
from on_gpu.pack import SCHEMA
from on_gpu.ways import BEST, PLAIN

Results = Mapping[str, Any]
TABLES = ("machine", "ceilings", "correctness", "speed", "processes", "profile", "beside", "cells")
EPOCHS, STEPS = 200, 391
"""A cell under the writeup's protocol: all 50,000 images, in batches of 128."""
HEAD = """# On a GPU

`make gpu` takes these measurements on a machine with one NVIDIA GPU, and `python benchmarks/gpu.py --page gpu.json`
writes the page. The network is the writeup's Efficient ResNet (width 64, 4.7 million parameters) and the same at width
16, at batch 128, with gradients clipped by value and Lookahead. The images are random pixels: a product of zeros is
faster than one of images. Ways of taking a step take turns in one process; a number is the median of the rounds, and a
ratio or a share compares numbers of one run."""
WAITS = ("no wait in", "no step waits")
"""The first words of checks that no step waits for the device."""
EPOCH = re.compile(r"\S+/s\d+: epoch ")
"""A line of progress."""


def read(path: Path) -> Results:
    """Return the results in a `gpu.json`.

    Raises:
        ValueError: the file is of another version.
    """
    results: Results = json.loads(path.read_text())
    if results.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema {results.get('schema')} is not {SCHEMA}")
    return results


def merged(every: Sequence[Results]) -> dict[str, Any]:
    """Return the newest results of each kind; checks, by name, and jobs of cells are collected from all files."""
    out: dict[str, Any] = {}
    for results in every:
        out |= {name: results[name] for name in TABLES if name in results}
    for name in {"cells", "correctness"} & out.keys():
        out[name] = {"rows": [row for results in every for row in _rows(results, name)]}
    if checks := {row["check"]: row for row in _rows(out, "correctness")}:
        out["correctness"] = {"rows": list(checks.values())}
    return {name: found for name, found in out.items() if name not in ("cells", "correctness") or found["rows"]}


def _rows(results: Results, name: str) -> list[dict[str, Any]]:
    return results.get(name, {}).get("rows", [])


def goals(results: Results) -> list[Goal]:
    """Return every goal, with its measurement or the reason for its absence."""
    best, plain, narrow = row(results, 64, BEST.title), row(results, 64, PLAIN.title), row(results, 16, BEST.title)
    clock, side = "% of the wall clock", "2 to 4 cells side by side, width 64 (lanes, an experiment, count)"
    asked: tuple[tuple[str, Any, float, str, Found], ...] = (
        ("graph + compiled, width 64", "least", 36_000, "images/s", _rate(best)),
        ("its share of the bf16 product", "least", 21, "%", _share(best)),
        ("its speed over the textbook loop with images on the device", "least", 2.5, "×",
         by_round(lambda a, b: b / a, _rate(plain), _rate(best))),
        ("graph + compiled, width 16", "least", 150_000, "images/s", _rate(narrow)),
        (side, "least", 45_000, "images/s together", _together(results)),
        ("checks of a step in which the host waits for the device", "most", 0, "checks", _waits(results)),
        ("checkpoints", "most", 2, clock, _of_a_cell(results, lambda p: 100 * p["saving"] / p["total"])),
        ("input and tracking", "most", 5, clock,
         _of_a_cell(results, lambda p: 100 * (p["input"] + p["journal"]) / p["total"])),
        ("a cell of 200 epochs under the writeup's protocol", "most", 6, "minutes",
         _of_a_cell(results, lambda p: p["total"] / 60)),
    )  # fmt: skip
    return [Goal(what=what, at=at, limit=limit, unit=unit, measured=found) for what, at, limit, unit, found in asked]


def row(results: Results, width: int, way: str) -> dict[str, Any] | None:
    """Return the last row of the speed table for a width and a way."""
    rows = [each for each in _rows(results, "speed") if (each["width"], each["way"]) == (width, way)]
    return rows[-1] if rows else None


def _rate(of: dict[str, Any] | None) -> Found:
    if of is None:
        return Absent("not run")
    if of.get("remark"):
        return Absent(f"no graph: {of['remark']}")
    return Spread(tuple(1000 * of["batch"] / ms for ms in of["ms"]))


def _share(of: dict[str, Any] | None) -> Found:
    if of is not None and not of.get("product"):
        return Absent("no product was measured beside it")
    return by_round(lambda rate: 100 * rate * of["tflops"] / of["images_per_second"] / of["product"], _rate(of))


def _together(results: Results) -> Found:
    rows = [each for each in _rows(results, "processes") if 2 <= each["processes"] <= 4]
    rows += [each for each in _rows(results, "speed") if each["way"].startswith(("2 lanes", "4 lanes"))]
    rates = [each["images_per_second"] for each in rows if each["width"] == 64]
    return Spread((max(rates),)) if rates else Absent("not run")


def _waits(results: Results) -> Found:
    checks = [each["passed"] for each in _rows(results, "correctness") if each["check"].startswith(WAITS)]
    known = [passed for passed in checks if passed is not None]
    return Spread((float(known.count(False)),)) if known else Absent("not run")


def cell(results: Results) -> dict[str, float] | str:
    """Return the seconds of a 200-epoch cell and of its parts, extrapolated; or what is missing for it."""
    best, beside = row(results, 64, BEST.title), results.get("beside", {})
    if isinstance(_rate(best), Absent):
        return f"{BEST.title}, width 64, was not measured"
    names = ("input_ms", "evaluation_ms", "journal_ms", "checkpoint_ms")
    if missing := [name for name in names if name not in beside]:
        return f"{', '.join(missing)} not measured"
    reading, look, line, save = (beside[name] / 1000 for name in names)
    steps, journal = EPOCHS * STEPS * sorted(best["ms"])[len(best["ms"]) // 2] / 1000, EPOCHS * line
    # The test images, and half as many of the training images: what is looked at after each epoch.
    evaluation = EPOCHS * 1.5 * look
    without = steps + evaluation + journal
    saving = save * (1 + without / max(without / EPOCHS, save / loop.SAVING_SHARE))
    return {
        "total": without + saving, "steps": steps, "evaluation": evaluation, "journal": journal, "saving": saving,
        "input": EPOCHS * STEPS * reading,
    }  # fmt: skip


def _of_a_cell(results: Results, what: Any) -> Found:
    parts = cell(results)
    return Absent(parts) if isinstance(parts, str) else Spread((what(parts),))


def page(every: Sequence[Results]) -> str:
    """Return the page in Markdown."""
    results = merged(every)
    tiny = ["**Made with `--tiny`, to take every path: the numbers mean nothing.**"]
    blocks: list[Iterable[str]] = [_runs(every), tiny if any(each["run"]["tiny"] for each in every) else ()]
    blocks += [_goals(results), _missing(every, results)]
    blocks += [part(results) for part in (_speed, _processes, _profile, _beside, _correctness, _cells)]
    return "\n\n".join([HEAD, *filter(None, ("\n".join(block) for block in blocks))]) + "\n"


def _number(value: Any) -> str:
    return "" if value is None else shown(float(value))


def _runs(every: Sequence[Results]) -> Iterator[str]:
    yield "## Runs\n"
    for each in every:
        run, machine, ceilings = each["run"], each.get("machine", {}), each.get("ceilings", {})
        card = run.get("card") or machine.get("card") or ("a GPU" if run["device"] == "cuda" else "no GPU")
        names = {"driver": "driver", "torch": "torch", "CUDA": "cuda", "cuDNN": "cudnn"}
        versions = ", ".join(f"{name} {machine[key]}" for name, key in names.items() if machine.get(key))
        versions = versions or (f"torch {run['torch']}" if run.get("torch") else "versions not noted")
        yield f"- {run['date']}, {card}: {versions}; code: {run['commit'] or 'not a checkout'}"
        if run.get("command"):
            yield f"  - command: `{run['command']}`"
        if machine.get("card"):
            yield (
                f"  - {machine['capability']}, {machine['multiprocessors']} multiprocessors, "
                f"{machine['memory_gib']} GiB, {machine['power_limit']}; torch "
                f"{'has' if machine['has_kernels'] else 'has no'} kernels built for it; clock "
                f"{machine['clock_idle']} idle, {machine.get('clock_busy', '?')} busy, {machine['clock_most']} at most"
            )
        if "bf16" in ceilings:
            side = ", ".join(f"{name} {shown(rate)}" for name, rate in ceilings.items() if name != "copy_tb_per_second")
            copy = f"; a copy moves {_number(ceilings.get('copy_tb_per_second'))} TB/s" * (len(ceilings) > 4)
            yield f"  - products of random 8192 × 8192 matrices in TFLOP/s: {side}{copy}"
        yield f"  - stages: {', '.join(f'{name} {seconds:g} s' for name, seconds in each.get('stages', {}).items())}"


def _goals(results: Results) -> Iterator[str]:
    every = goals(results)
    reached, missed, unknown = tally(every)
    yield "## Goals\n"
    counts = f"**{reached} of {len(every)} reached, {missed} missed, {unknown} not measured.**"
    yield f"The goals were set for an H100. {counts}\n"
    yield from table(("goal", "wanted", "measured", "verdict"), [
        (goal.what, goal.wanted,
         "" if isinstance(goal.measured, Absent) else f"{shown(goal.measured.median)} {goal.unit}",
         goal.verdict if goal.is_reached else f"**{goal.verdict}**")
        for goal in every
    ])  # fmt: skip
    parts = cell(results)
    if isinstance(parts, dict):
        sums = ", ".join(f"{name} {shown(seconds)} s" for name, seconds in parts.items() if name != "total")
        yield (
            "\nThe cell of 200 epochs and the shares of the wall clock are extrapolated from measured times of a step, "
            f"an evaluation, a line of the journal and a checkpoint: {sums} (the input is part of the steps). "
            "Compiling is left out."
        )


def _missing(every: Sequence[Results], results: Results) -> Iterator[str]:
    lines = [f"- {name}: not run" for name in TABLES if name not in results and name != "processes"]
    lines += [f"- {key}: {str(value).removeprefix(f'{key}: ')}" for each in every for name in ("failed", "skipped")
              for key, value in each.get(name, {}).items()]  # fmt: skip
    if lines:
        yield from ("## What is missing\n", *lines)


def _table(title: str, heading: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> Iterator[str]:
    if rows:
        yield f"## {title}\n"
        yield from table(heading, rows, left)


def _speed(results: Results) -> Iterator[str]:
    heading = ("width", "way", "ms", "lowest", "highest", "images/s", "TFLOP/s", "of bf16", "host ms",
               "MiB", "MiB reserved")  # fmt: skip
    return _table("Speed of a step", heading, [
        (
            row["width"], row["way"] + (f" (no graph: {row['remark']})" if row.get("remark") else ""),
            *(shown(of(row["ms"])) for of in (median, min, max)),
            f"{row['images_per_second']:,.0f}", shown(row["tflops"]), f"{row['share']:.1%}" if row.get("share") else "",
            *(_number(row.get(name)) for name in ("host_ms", "allocated_mib", "reserved_mib")),
        )
        for row in _rows(results, "speed")
    ], left=2)  # fmt: skip


def _processes(results: Results) -> Iterator[str]:
    heading = ("width", "processes", "way", "images/s together", "× one")
    return _table("Several processes on the GPU", heading, [
        (row["width"], row["processes"], row["way"], f"{row['images_per_second']:,.0f}", shown(row["of_one"]))
        for row in _rows(results, "processes")
    ])  # fmt: skip


def _profile(results: Results) -> Iterator[str]:
    heading = ("width", "way", "kernels", "device busy, ms", "step, ms", "host, ms", "waits", "most of it")
    return _table("Where a step's time goes", heading, [
        (
            row["width"], row["way"], f"{row['kernels']:.0f}",
            *(shown(row[name]) for name in ("busy_ms", "wall_ms", "host_ms")), row["waits"] + row["copies_to_host"],
            ", ".join(f"{kind} {shown(ms)}" for kind, ms in list(row["by_kind"].items())[:4]),
        )
        for row in _rows(results, "profile")
    ], left=2)  # fmt: skip


def _beside(results: Results) -> Iterator[str]:
    names = {
        "draw_ms": "all draws of an epoch, ms (made ahead in a thread)", "input_ms": "input of a step, ms",
        "evaluation_ms": "evaluation of the test images, ms",
        "evaluation_images_per_second": "evaluation, images/s", "checkpoint_ms": "a checkpoint, ms",
        "checkpoint_mib": "a checkpoint, MiB", "journal_ms": "a line of the journal, ms",
        "loop_epoch_seconds": "an epoch of the whole loop, seconds", "loop_training_share": "of which training",
        "loop_saving_share": "of which checkpoints (one, after the first epoch)",
        "loop_journal_share": "of which the journal",
    }  # fmt: skip
    beside = results.get("beside", {})
    found = [(names[key], shown(beside[key])) for key in names if key in beside]
    return _table("Besides the steps", ("what", "measured"), found)


def _correctness(results: Results) -> Iterator[str]:
    rows, together = _rows(results, "correctness"), dict[tuple[str, str, str], list[str]]()
    verdicts = {True: "passed", False: "**failed**", None: "not checked: no GPU"}
    for row in rows:  # checks that differ in the network alone share a line
        check, _, network = row["check"].rpartition(": ")
        alike = (check or network, verdicts[row["passed"]], row["detail"])
        together.setdefault(alike, []).append(network if check else "")
    title = f"Correctness\n\n{sum(row['passed'] is True for row in rows)} of {len(rows)} checks passed."
    lines = [(check, "; ".join(networks), verdict, detail) for (check, verdict, detail), networks in together.items()]
    return _table(title, ("check", "of", "verdict", "detail"), lines, left=4)


def _cells(results: Results) -> Iterator[str]:
    rows = _rows(results, "cells")
    yield from ["## Cells\n"] if rows else []
    for row in rows:
        yield f"`{row['command']}`: cells trained: {row['trained']}, in {shown(row['seconds'])} s ({row['ended']})."
        yield from ["", "```", *(line for line in row["table"] if not EPOCH.match(line)), "```", ""]

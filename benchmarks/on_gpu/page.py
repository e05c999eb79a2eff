"""Write docs/gpu.md from measurements of `gpu.py`; without them, from estimates that are marked as such."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from side_by_side.spread import Absent, shown

from on_gpu.goals import cell, goals

Results = Mapping[str, Any]
TABLES = ("machine", "ceilings", "correctness", "tests", "speed", "compile", "processes", "profile", "beside", "cells")
HEAD = """# On a GPU

`make gpu` takes these measurements on a machine with one NVIDIA GPU, and `python benchmarks/gpu.py --page gpu.json`
writes the page. The network is the writeup's Efficient ResNet (width 64, 4.7 million parameters) and the same at width
16, at batch 128, with gradients clipped by value and Lookahead. The images are random pixels: a product of zeros is
faster than one of images. Ways of taking a step take turns in one process; a number is the median of the rounds, and a
ratio or a share compares numbers of one run."""
EPOCH = re.compile(r"\S+/s\d+: epoch ")
"""A line of progress."""
NOTHING = "**Nothing on this page was measured: no GPU was available.**"
ESTIMATE = """## Estimated speed

**The speed was not measured.** What follows is arithmetic for an H100, not a result.

- Work: an image costs 799 million multiply-accumulates forward. With two operations each, and the backward pass costing
  twice the forward one, a step of 128 images is 799 M × 2 × 3 × 128 = 614 GFLOP.
- Ceiling: an H100 multiplies large random bf16 matrices at about 798 TFLOP/s. At that rate a step would take 0.77 ms,
  166,000 images/s. It is out of reach: the first layer has 64 channels, which fills half of a tensor core's tile, and
  the weights' gradients reduce 131,072 rows into 64 × 576 numbers. Convolutions alone are estimated at 1.7 to 2.5 ms.
- Memory: a step's activations are 256 MB in bf16. Separate kernels pass over them some 16 times (1.5 to 1.8 ms at
  3 TB/s), compiled ones some 9 times (0.7 to 1.0 ms).
- Launches: an eager step launches about 500 kernels, which takes the host 4 to 6 ms, longer than the device needs for
  them. Replaying the step as one CUDA graph removes that.

| way, width 64, batch 128 | ms a step | images/s | share of 798 TFLOP/s | a cell of 200 epochs |
|---|---:|---:|---:|---:|
| textbook loop, PIL images, loader with two workers | 13–14 | 9,000–10,000 | 6 % | 16 min |
| textbook loop, images on the device, TF32 | 8–10 | 13,000–16,000 | 9 % | 10–12 min |
| lab, fp32 | 16–20 | 6,000–8,000 | 4 % | 20–25 min |
| lab, bf16 | 4.5–6 | 21,000–28,000 | 13–17 % | 6–8 min |
| lab, compiled | 3–4 | 32,000–43,000 | 19–26 % | 4–5 min |
| lab, graph | 3.8–4.6 | 28,000–34,000 | 17–20 % | 5 min |
| lab, graph + compiled | 2.7–3.6 | 36,000–47,000 | 21–28 % | 3.5–4.5 min |

The source of every number in this table is the arithmetic above."""


def read(path: Path) -> Results:
    """Return the results in a `gpu.json`.

    Raises:
        ValueError: the file is of another version.
    """
    results: Results = json.loads(path.read_text())
    if results.get("schema") != 1:
        raise ValueError(f"{path}: schema {results.get('schema')} is not 1")
    return results


def merged(every: Sequence[Results]) -> dict[str, Any]:
    """Return the newest results of each kind; checks, by name, and jobs of cells are collected from all files."""
    out: dict[str, Any] = {}
    for results in every:
        out |= {name: results[name] for name in TABLES if name in results and name not in {"cells", "correctness"}}
    rows = {name: [row for results in every for row in results.get(name, {}).get("rows", [])]
            for name in ("cells", "correctness")}  # fmt: skip
    if rows["cells"]:
        out["cells"] = {"rows": rows["cells"]}
    if rows["correctness"]:
        out["correctness"] = {"rows": list({row["check"]: row for row in rows["correctness"]}.values())}
    return out


def page(every: Sequence[Results]) -> str:
    """Return the page in Markdown."""
    if not every:
        blocks: list[str] = [HEAD, NOTHING, ESTIMATE, _join(_goals({}))]
    else:
        results = merged(every)
        blocks = [HEAD, _join(_runs(every))]
        if any(each["run"]["tiny"] for each in every):
            blocks.append("**Made with `--tiny`, to take every path: the numbers mean nothing.**")
        blocks += [_join(_goals(results)), _join(_missing(every, results))]
        if "speed" not in results:
            blocks.append(ESTIMATE)
        parts = (_speed, _processes, _profile, _beside, _correctness, _cells)
        blocks += [_join(part(results)) for part in parts]
    return "\n\n".join(block for block in blocks if block) + "\n"


def short(results: Results) -> list[str]:
    """Return the lines that a call prints last."""
    lines = [*_speed(results), "", *_processes(results), "", *_profile(results), ""]
    checks = results.get("correctness", {}).get("rows", [])
    wrong = [row for row in checks if row["passed"] is False]
    lines += [f"correctness: {sum(row['passed'] is True for row in checks)} of {len(checks)} checks passed"]
    lines += [f"  WRONG {row['check']}: {row['detail']}" for row in wrong]
    lines += [f"{name}: {key}: {value}" for name in ("failed", "skipped", "output") for key, value in
              results.get(name, {}).items()]  # fmt: skip
    lines += [f"cells: {row['job']}: {row['trained']} trained in {row['seconds']} s, {row['ended']}"
              for row in results.get("cells", {}).get("rows", [])]  # fmt: skip
    return [*lines, "", *_goals(results)]


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'|'.join(['---'] * left + ['---:'] * (len(heading) - left))}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def _number(value: Any) -> str:
    return "" if value is None else shown(float(value))


def _runs(every: Sequence[Results]) -> Iterator[str]:
    yield "## Runs\n"
    for each in every:
        run, machine, ceilings = each["run"], each.get("machine", {}), each.get("ceilings", {})
        card = run.get("card") or machine.get("card") or ("a GPU" if run["device"] == "cuda" else "no GPU")
        versions = ", ".join(f"{name} {machine[key]}" for name, key in
                             (("driver", "driver"), ("torch", "torch"), ("CUDA", "cuda"), ("cuDNN", "cudnn"))
                             if machine.get(key))  # fmt: skip
        versions = versions or (f"torch {run['torch']}" if run.get("torch") else "versions not noted")
        yield f"- {run['date']}, {card}: {versions}; code: {run['commit'] or 'not a checkout'}"
        if run.get("command"):
            yield f"  - command: `{run['command']}`"
        if machine.get("card"):
            kernels = "has" if machine["has_kernels"] else "has no"
            yield (
                f"  - {machine['capability']}, {machine['multiprocessors']} multiprocessors, "
                f"{machine['memory_gib']} GiB, {machine['power_limit']}; torch {kernels} kernels built for it; clock "
                f"{machine['clock_idle']} idle, {machine.get('clock_busy', '?')} busy, {machine['clock_most']} at most"
            )
        if "bf16" in ceilings:
            side = ", ".join(
                f"{name} {shown(ceilings[name])}" for name in ("bf16", "fp16", "tf32", "fp32") if name in ceilings
            )
            copy = (
                f"; a copy moves {shown(ceilings['copy_tb_per_second'])} TB/s"
                if "copy_tb_per_second" in ceilings
                else ""
            )
            yield f"  - products of random 8192 × 8192 matrices in TFLOP/s: {side}{copy}"
        yield f"  - stages: {', '.join(f'{name} {seconds:g} s' for name, seconds in each.get('stages', {}).items())}"


def _goals(results: Results) -> Iterator[str]:
    every = goals(results)
    counts = {state: sum(goal.is_reached is state for goal in every) for state in (True, False, None)}
    yield "## Goals\n"
    yield (
        "The goals were set for an H100. "
        f"**{counts[True]} of {len(every)} reached, {counts[False]} missed, {counts[None]} not measured.**\n"
    )
    rows = [
        (goal.what, goal.wanted,
         "" if isinstance(goal.measured, Absent) else f"{shown(goal.measured.median)} {goal.unit}",
         goal.verdict if goal.is_reached else f"**{goal.verdict}**")
        for goal in every
    ]  # fmt: skip
    yield from _table(("goal", "wanted", "measured", "verdict"), rows)
    parts = cell(results)
    if isinstance(parts, dict):
        sums = ", ".join(f"{name} {shown(seconds)} s" for name, seconds in parts.items() if name != "total")
        yield (
            "\nThe cell of 200 epochs and the shares of the wall clock are extrapolated from measured times of a step, "
            f"an evaluation, a line of the journal and a checkpoint: {sums} (the input is part of the steps). "
            "Compiling is left out."
        )


def _missing(every: Sequence[Results], results: Results) -> Iterator[str]:
    absent = [name for name in TABLES if name not in results and name not in {"tests", "compile"}]
    lines = [f"- {name}: not run" for name in absent]
    lines += [f"- {key}: {str(value).removeprefix(f'{key}: ')}" for each in every for name in ("failed", "skipped")
              for key, value in each.get(name, {}).items()]  # fmt: skip
    if lines:
        yield "## What is missing\n"
        yield from lines


def _speed(results: Results) -> Iterator[str]:
    rows = results.get("speed", {}).get("rows", [])
    if not rows:
        return
    yield "## Speed of a step\n"
    heading = ("width", "way", "ms", "lowest", "highest", "images/s", "TFLOP/s", "of bf16", "host ms",
               "MiB", "MiB reserved")  # fmt: skip
    yield from _table(heading, [
        (
            str(row["width"]), row["way"] + (f" (no graph: {row['remark']})" if row.get("remark") else ""),
            shown(median(row["ms"])), shown(min(row["ms"])), shown(max(row["ms"])),
            f"{row['images_per_second']:,.0f}", shown(row["tflops"]),
            f"{row['share']:.1%}" if row.get("share") else "", _number(row.get("host_ms")),
            _number(row.get("allocated_mib")), _number(row.get("reserved_mib")),
        )
        for row in rows
    ], left=2)  # fmt: skip
    if compiling := results.get("compile", {}):
        yield "\nSeconds to the first compiled step in a fresh cache, beside other work: " + ", ".join(
            f"{name.split(',')[0]} {value['seconds']:g}" for name, value in compiling.items()
        )


def _processes(results: Results) -> Iterator[str]:
    if rows := results.get("processes", {}).get("rows", []):
        yield "## Several processes on the GPU\n"
        yield from _table(("width", "processes", "way", "images/s together", "× one"), [
            (str(row["width"]), str(row["processes"]), row["way"], f"{row['images_per_second']:,.0f}",
             shown(row["of_one"]))
            for row in rows
        ])  # fmt: skip


def _profile(results: Results) -> Iterator[str]:
    if rows := results.get("profile", {}).get("rows", []):
        yield "## Where a step's time goes\n"
        heading = ("width", "way", "kernels", "device busy, ms", "step, ms", "host, ms", "waits", "most of it")
        yield from _table(heading, [
            (
                str(row["width"]), row["way"], f"{row['kernels']:.0f}", shown(row["busy_ms"]), shown(row["wall_ms"]),
                shown(row["host_ms"]), str(row["waits"] + row["copies_to_host"]),
                ", ".join(f"{kind} {shown(ms)}" for kind, ms in list(row["by_kind"].items())[:4]),
            )
            for row in rows
        ], left=2)  # fmt: skip


def _beside(results: Results) -> Iterator[str]:
    beside = results.get("beside", {})
    if not beside:
        return
    yield "## Besides the steps\n"
    names = {
        "draw_ms": "all draws of an epoch, ms (made ahead in a thread)", "input_ms": "input of a step, ms",
        "evaluation_ms": "evaluation of the test images, ms",
        "evaluation_images_per_second": "evaluation, images/s", "checkpoint_ms": "a checkpoint, ms",
        "checkpoint_mib": "a checkpoint, MiB", "journal_ms": "a line of the journal, ms",
        "loop_epoch_seconds": "an epoch of the whole loop, seconds", "loop_training_share": "of which training",
        "loop_saving_share": "of which checkpoints (one, after the first epoch)",
        "loop_journal_share": "of which the journal",
    }  # fmt: skip
    yield from _table(("what", "measured"), [(names[key], shown(beside[key])) for key in names if key in beside])


def _correctness(results: Results) -> Iterator[str]:
    rows = results.get("correctness", {}).get("rows", [])
    if rows:
        verdicts = {True: "passed", False: "**failed**", None: "not checked: no GPU"}
        yield f"## Correctness\n\n{sum(row['passed'] is True for row in rows)} of {len(rows)} checks passed.\n"
        together = dict[tuple[str, str, str], list[str]]()  # checks that differ in the network alone
        for row in rows:
            check, _, network = row["check"].rpartition(": ")
            together.setdefault((check or network, verdicts[row["passed"]], row["detail"]), []).append(
                network if check else ""
            )
        yield from _table(("check", "of", "verdict", "detail"), [
            (check, "; ".join(networks), verdict, detail) for (check, verdict, detail), networks in together.items()
        ], left=4)  # fmt: skip


def _cells(results: Results) -> Iterator[str]:
    rows = results.get("cells", {}).get("rows", [])
    if rows:
        yield "## Cells\n"
        for row in rows:
            yield f"`{row['command']}`: cells trained: {row['trained']}, in {shown(row['seconds'])} s ({row['ended']})."
            table = [line for line in row["table"] if not EPOCH.match(line)]
            yield "\n".join(["", "```", *table, "```", ""])

"""`status` and `failures`: progress of cells, and their errors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from cifar_lab.cli import completion, console, watch
from cifar_lab.cli import options as o
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.errors import TrackingError
from cifar_lab.object_store import with_addresses
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.inspect.failures import DamagedCell, DivergedCell, FailedCell
    from cifar_lab.inspect.progress import CellProgress
    from cifar_lab.inspect.status import AblationStatus
    from cifar_lab.store.invocation import Invocation
    from cifar_lab.store.selection import Selection

MaybeName = Annotated[
    str | None,
    typer.Argument(
        metavar="[ABLATION]",
        help="Ablation that was run; without one, all of them.",
        autocompletion=completion.ablations,
    ),
]
LINES = 15
"""Number of lines shown of a traceback, unless all of it is requested."""


def status(
    name: MaybeName = None, overrides: o.Overrides = None,
    watched: Annotated[bool, typer.Option("--watch", help="Refresh every 2 s until all cells are done.")] = False,
    scale: o.MaybeScale = None, data: o.MaybeData = None, invocation: o.MaybeInvocation = None,
    runs: o.RunsOrZip = o.DEFAULT_RUNS, ablations: o.Folders = None,  # noqa: ARG001 (completion reads it)
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Show the progress of cells: a summary of every ablation that was run, or the cells of one."""
    from cifar_lab.inspect.status import look
    from cifar_lab.store.mirror import REFRESH, refresh_runs

    def look_again() -> list[AblationStatus]:
        refresh_runs(runs, every=REFRESH)
        settings = _settings(name, overrides, scale, data, invocation, runs)
        return [look(setting, runs.resolve()) for setting in settings]

    def tree(found: list[AblationStatus]) -> object:
        if name is None:
            return [entry.summary() for entry in found]
        shown = found[0].as_dict()
        queue = _in_queue(found, runs.resolve())
        shown["cells"] = [{**cell, "queue": queue.get(cell["fingerprint"])} for cell in shown["cells"]]
        return shown

    def show(found: list[AblationStatus]) -> list[RenderableType]:
        if name is None:
            return [_all(found, runs.resolve())]
        return _one(found[0], _in_queue(found, runs.resolve()))

    if watched:
        return watch.watch(look_again, tree if as_json else None, show)
    found = look_again()
    if as_json:
        console.print_json(tree(found))
    else:
        for part in show(found):
            console.out.print(part, soft_wrap=isinstance(part, Text))  # lines stay whole, tables fit
    return 0


def failures(
    name: MaybeName = None, overrides: o.Overrides = None,
    full: Annotated[bool, typer.Option("--full", help="Show whole traces instead of their last lines.")] = False,
    scale: o.MaybeScale = None, data: o.MaybeData = None, invocation: o.MaybeInvocation = None,
    runs: o.RunsOrZip = o.DEFAULT_RUNS, ablations: o.Folders = None,  # noqa: ARG001 (completion reads it)
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Show the cells that failed, diverged or are damaged, and why; exit code 1 when a cell failed or is damaged.

    Of an ablation, one setting is shown, the latest that matches; failures in its other settings are counted.
    """
    from cifar_lab.inspect.failures import (
        DamagedCell,
        DivergedCell,
        FailedCell,
        failures_elsewhere,
        read_failures,
    )

    settings = _settings(name, overrides, scale, data, invocation, runs)
    found = read_failures(settings, runs.resolve())
    failed = [entry for entry in found if isinstance(entry, FailedCell)]
    diverged = [entry for entry in found if isinstance(entry, DivergedCell)]
    damaged = [entry for entry in found if isinstance(entry, DamagedCell)]
    if as_json:
        tree = {"failed": [f.as_dict() for f in failed], "diverged": [d.as_dict() for d in diverged]}
        console.print_json({**tree, "damaged": [d.as_dict() for d in damaged]})
    else:
        lines = [*_failure_lines(failed, diverged, damaged, full, where="" if name is None else " in this setting")]
        if name is not None:
            elsewhere = _elsewhere_lines(failures_elsewhere(settings[0], runs.resolve()))
            lines = [*_heading(settings[0]), *lines, *elsewhere]
        for line in lines:
            console.out.print(line, soft_wrap=True)
    return 1 if failed or damaged else 0


def _settings(
    name: str | None, overrides: list[str] | None, scale: str | None, data: str | None, invocation: str | None,
    runs: Path,
) -> list[Selection]:  # fmt: skip
    """Return the requested setting of one ablation, or all settings of all ablations."""
    from cifar_lab.store.selection import read_settings, select

    o.require_setting(invocation, [name] if name is not None else [], scale, data, overrides or [])
    if name is None:
        return read_settings(runs.resolve(), scale=scale, data=data)
    diff = parse_overrides(overrides or [])
    return [select(runs.resolve(), name, scale=scale, data=data, overrides=diff, invocation=invocation)]


def _all(found: list[AblationStatus], runs: Path) -> RenderableType:
    if not found:
        return Text(f"nothing has been run in {with_addresses(str(runs))}")
    queue = _in_queue(found, runs)
    rows = []
    for entry in found:
        latest, counts = entry.setting.latest, watch.counts(entry)
        if queued := sum(cell.asked.fingerprint in queue for cell in entry.cells):
            counts = f"{counts}, {queued} with Slurm"
        rows.append((latest.ablation, entry.setting.title(), len(entry.cells), counts, _minute(latest.time)))
    return console.table("", ("ablation", "setting", "cells", "of these", "asked for"), rows, right=("cells",),
                         whole=("ablation", "asked for"))  # fmt: skip


def _in_queue(found: list[AblationStatus], runs: Path) -> dict[str, str]:
    """Return the state in Slurm's queue of each unfinished cell that was submitted, by fingerprint."""
    from cifar_lab.execution import slurm
    from cifar_lab.store.submission import read_submissions

    submissions = list(read_submissions(runs))
    if not submissions or all(status.is_settled for status in found):
        return {}
    try:
        waiting = slurm.tasks_of_cells(submissions, slurm.queued([each.job for each in submissions]))
    except TrackingError as error:
        console.say(f"warning: {error}")
        return {}
    queue: dict[str, str] = {}
    for cell in (cell for status in found for cell in status.cells):
        if cell.owner is not None and cell.owner.task:
            queue[cell.asked.fingerprint] = cell.owner.task
        elif cell.state == "missing" and (task := waiting.get(cell.asked.fingerprint)) is not None:
            queue[cell.asked.fingerprint] = task.described()
    return queue


def _one(status: AblationStatus, queue: Mapping[str, str]) -> list[RenderableType]:
    """Return header, table, notes on single cells, and the remaining time."""
    from cifar_lab.store.selection import selector

    setting = status.setting
    columns = ("cell", "fingerprint", "state", "epoch", "val %", "test %", "img/s", "seen", "left", "Slurm")
    shown = [[*_row(cell), queue.get(cell.asked.fingerprint, "")] for cell in status.cells]
    filled = [i for i in range(len(columns)) if any(row[i] for row in shown)]
    made = console.table("", [columns[i] for i in filled], [[row[i] for i in filled] for row in shown],
                         right=columns[3:-1], whole=columns[1:3], gap=1)  # fmt: skip
    notes = [Text(f"{cell.name}: {note}") for cell in status.cells for note in _notes(cell, setting.latest.ablation)]
    others = [Text(f"also there: {selector(other)}", style="dim") for other in setting.others]
    return [*_heading(setting), made, *notes, Text(watch.total(status)), *others]


def _heading(setting: Selection) -> list[Text]:
    """Return the ablation with its setting, and the latest invocation."""
    latest, count = setting.latest, len(setting.invocations)
    more = f", the latest of {count} in this setting" if count > 1 else ""
    return [Text(f"{latest.ablation} · {setting.title()}"), Text(f"invocation {latest.id}{more}")]


def _is_quiet(cell: CellProgress) -> bool:
    from cifar_lab.inspect.progress import QUIET

    return cell.last_sign is not None and cell.last_sign > QUIET


def _row(cell: CellProgress) -> list[str | Text]:
    colour = "red" if cell.state in {"failed", "damaged"} or _is_quiet(cell) else ""
    epochs = f"/{cell.epochs}" if cell.epochs is not None else ""
    return [
        cell.name,
        cell.asked.fingerprint[:12],
        Text(cell.state, style=colour),
        f"{cell.epoch}{epochs}" if cell.epoch or cell.state == "running" else "",
        f"{100 * cell.val:.2f}" if cell.val is not None else "",
        f"{100 * cell.test:.2f}" if cell.test is not None else "",
        f"{cell.images_per_second:,.0f}" if cell.images_per_second is not None else "",
        console.duration(max(0.0, time.time() - cell.seen / 1000)) if cell.seen is not None else "",
        console.duration(cell.left) if cell.left is not None else "",
    ]


def _notes(cell: CellProgress, ablation: str) -> Iterator[str]:
    """Yield details that do not fit into the table."""
    from cifar_lab.store.cell_record import advice_on_damage
    from cifar_lab.store.stopped_cell import stopped_after

    if cell.owner is not None:
        yield f"trained by {cell.owner.host}, process {cell.owner.pid}"
    if cell.silent is not None:
        yield f"no sign of life since {console.duration(cell.silent)}"
    elif cell.last_sign is not None and _is_quiet(cell):
        yield f"last sign of life {console.duration(cell.last_sign)} ago"
    if cell.state == "diverged":
        yield f"diverged in epoch {cell.epoch} at step {cell.step}"
    if cell.waits_for is not None:
        yield f"waits for {cell.waits_for}" + (", which did not finish" if cell.stuck else "")
    if cell.error is not None and cell.state == "failed":
        yield f"{cell.error} (`cifar-lab failures {ablation}`)"
    if cell.state == "damaged":
        yield f"{cell.error}; {advice_on_damage(cell.asked.fingerprint)}"
    if cell.resumes and cell.state == "missing":
        yield f"{stopped_after(cell.epoch, cell.epochs)}, from where it goes on"


def _failure_lines(
    failed: list[FailedCell], diverged: list[DivergedCell], damaged: list[DamagedCell], full: bool, where: str = ""
) -> Iterator[Text]:
    if failed:
        yield Text("failed:", style="bold")
    for bad in failed:
        yield Text.assemble((str(bad.name), "bold"), f"  {bad.fingerprint[:12]}  failed {_minute(bad.failure.time)}")
        yield Text(bad.failure.error, style="red")
        trace = bad.failure.trace.rstrip().splitlines()
        if trace == [bad.failure.error]:  # of a process that was killed
            trace = []
        left_out = 0 if full else max(0, len(trace) - LINES)
        if left_out:
            yield Text(f"  … {left_out} lines before; --full shows them", style="dim")
        yield from (Text(f"  {line}") for line in trace[left_out:])
        yield Text(f"again: {bad.again}\n")
    if diverged:
        yield Text("diverged, which is a result:", style="bold")
    for each in diverged:
        when = f"in epoch {each.result.epoch} at step {each.result.step}, {_minute(each.result.time)}"
        yield Text(f"{each.name}  {each.fingerprint[:12]}  {when}")
    if damaged:
        yield Text("damaged, and not used:", style="bold")
    for entry in damaged:
        yield Text.assemble((str(entry.name), "bold"), f"  {entry.fingerprint[:12]}")
        yield Text(entry.damage, style="red")
        yield Text(f"{entry.remedy}\n")
    counts = {"failed": len(failed), "damaged": len(damaged)}
    yield Text(", ".join(f"{count} {word}" for word, count in counts.items() if count) or f"no failures{where}")


def _elsewhere_lines(counted: Iterable[tuple[Invocation, int]]) -> Iterator[Text]:
    """Yield one line for each other setting with failed or damaged cells, with the options that show it."""
    from cifar_lab.store.selection import selector

    for other, count in counted:
        yield Text(f"{many(count, 'cell')} failed or damaged in another setting: {selector(other)}")


def _minute(moment: int) -> str:
    """Format a time in ms as local time."""
    return f"{datetime.fromtimestamp(moment / 1000):%Y-%m-%d %H:%M}"

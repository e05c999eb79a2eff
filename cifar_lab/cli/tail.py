"""`tail`: print the journal of one cell."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.errors import DamageError
from cifar_lab.store.cell_record import ENDED

if TYPE_CHECKING:
    from cifar_lab.store.cell_record import CellRecord
    from cifar_lab.store.journal import JournalReader
    from cifar_lab.store.journal_events import AttemptEvent, JournalEvent

EVERY = 1.0
"""Seconds between two checks of a journal that is followed."""
ACCURACIES = {"val": "val/acc", "test": "test/acc", "train": "clean_train/acc"}


def tail(
    cell: o.NamedCell,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Follow the log until the cell ends.")] = False,
    epochs: Annotated[int, typer.Option("-n", "--epochs", min=0, help="Number of last epochs to print.")] = 10,
    runs: o.RunsOrZip = o.DEFAULT_RUNS, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Print the training log of a cell, one line per epoch. With -f and --json: one JSON object per line.

    Damaged lines of the journal are reported and left out; the exit code is then 1.
    """
    from cifar_lab.store.journal import JournalReader
    from cifar_lab.store.selection import find_cell

    record = find_cell(runs.resolve(), cell)
    reader = JournalReader(record.folder)
    events = _last(_shown(reader.events()), epochs)
    if as_json:
        head = {"fingerprint": record.fingerprint, "state": record.state(), "known_as": _known_as(record)}
        if not follow:
            console.print_json(
                {**head, "events": [event.as_json() for event in events], "damage": _damage(record, reader)}
            )
            return 1 if _damage(record, reader) else 0
        console.write(json.dumps(head))
    else:
        console.show(cell_identity(record))
    _print(events, record, as_json)
    if follow:
        with suppress(KeyboardInterrupt):
            _follow(record, reader, as_json)
    return console.say_damage(_damage(record, reader))


def _damage(record: CellRecord, reader: JournalReader) -> list[str]:
    """Return the damage of the record, and of the journal as far as it was read."""
    lines = [f"{record.journal}: {line}" for line in reader.damage]
    if (damage := record.damage()) is not None:
        return [damage, *lines]
    try:
        record.require_sound(record.journal)
    except DamageError as error:
        lines = lines or [str(error)]
    return lines


def cell_identity(record: CellRecord) -> str:
    """Return names, fingerprint and state: `se_ratio r4/s0, noise_floor r4/s0 · 0123456789ab · running`."""
    from cifar_lab.store.selection import cell_names

    known = ", ".join(str(name) for name in cell_names(record.folder.parent).get(record.fingerprint, ()))
    return f"{known or 'never asked for'} · {record.fingerprint[:12]} · {_state(record)}"


def _known_as(record: CellRecord) -> list[dict[str, Any]]:
    from cifar_lab.store.selection import cell_names

    return [name._asdict() for name in cell_names(record.folder.parent).get(record.fingerprint, ())]


def _state(record: CellRecord) -> str:
    state = record.state()
    if state == "damaged":
        return "damaged"
    if state == "missing":
        return "nobody trains it"
    result = record.result()
    if result is None or "test/acc" not in result.metrics:
        return state
    seconds = console.duration(result.metrics.get("seconds", 0.0))
    return f"{state}, test {100 * result.metrics['test/acc']:.2f} % after {seconds} of training"


def _shown(events: list[JournalEvent]) -> list[JournalEvent]:
    """Return the events to be shown: a checkpoint adds nothing to its epoch."""
    return [event for event in events if event.kind != "checkpoint"]


def _last(events: list[JournalEvent], epochs: int) -> list[JournalEvent]:
    """Return `events` from the first of the last `epochs` epochs on."""
    points = [i for i, event in enumerate(events) if event.kind == "points"]
    if len(points) <= epochs:
        return events
    return events[points[-epochs] if epochs else points[-1] + 1 :]


def _follow(record: CellRecord, reader: JournalReader, as_json: bool) -> None:
    """Print new events until the cell has ended, or its runner is gone."""
    was_trained, told = False, False
    from cifar_lab.store.mirror import REFRESH, refresh_runs

    while True:
        refresh_runs(record.folder.parent, every=REFRESH)
        state = record.state()
        owner = record.owner() if state == "running" else None
        _print(_shown(reader.events()), record, as_json)
        if state in ENDED | {"failed", "damaged"} or (state == "missing" and was_trained):
            break
        if state == "missing" and not told:
            console.say("nobody trains it now; this waits for somebody who does, Ctrl-C ends it")
            told = True
        was_trained = was_trained or (state == "running" and owner is not None)  # not by somebody who only looks
        time.sleep(EVERY)
    if not as_json and state != "failed":  # its last line has shown that
        console.show(_state(record))


def _print(events: list[JournalEvent], record: CellRecord, as_json: bool) -> None:
    epochs = None
    with suppress(DamageError):  # reported with the state
        epochs = cell.recipe.train.epochs if (cell := record.cell()) is not None else None
    for event in events:
        if as_json:
            console.write(json.dumps(event.as_json()))
        elif (words := _words(event, epochs)) is not None:
            console.show(f"{datetime.fromtimestamp(event.time / 1000):%Y-%m-%d %H:%M:%S}  {words}")


def _words(event: JournalEvent, epochs: int | None) -> str | None:
    from cifar_lab.store import journal_events as kinds

    match event:
        case kinds.StartEvent():
            return f"started{_execution(event)}"
        case kinds.ResumeEvent(epoch=0, step=0):  # follows a start
            return None
        case kinds.ResumeEvent():
            step = f" and {event.step} steps" if event.step else ""
            return f"went on after epoch {event.epoch}{step}{_execution(event)}"
        case kinds.DamagedEvent():
            kept = f", kept as {event.kept}" if event.kept else ""
            return f"{event.file} was damaged ({event.why}){kept}: the cell begins anew"
        case kinds.PointsEvent():
            return _metrics(event.epoch, epochs, event.values)
        case kinds.FailedEvent():
            return f"failed: {(event.trace.rstrip().splitlines() or [''])[-1]}"
        case kinds.EagerEvent():
            return f"steps were taken one operation at a time, not as a CUDA graph: {event.why}"
        case kinds.TeachersEvent():
            named = ", ".join(fingerprint[:12] for fingerprint in event.cells)
            how = "" if event.compiled else ", whose forward passes are not compiled"
            return f"learns from {named}{how}"
        case kinds.EndEvent(status="diverged"):
            return f"diverged in epoch {event.epoch} at step {event.step}"
        case kinds.EndEvent():
            return "all epochs done"
    return "a kill had torn the line before" if event.kind == "torn" else event.kind


def _execution(event: AttemptEvent) -> str:
    execution = event.execution
    if execution is None:
        return ""
    compiled = ", compiled" if execution.compile else ""
    compiled += ", CUDA graph" if execution.graph else ""
    gpu = f" ({execution.gpu})" if execution.gpu else ""
    return f" on {execution.device}{gpu}, {execution.threads} threads, {execution.precision}{compiled}"


def _metrics(epoch: int, epochs: int | None, values: dict[str, float]) -> str:
    words = [f"epoch {epoch:>{len(str(epochs or epoch))}}" + (f"/{epochs}" if epochs else "")]
    words += [f"{name} {100 * values[key]:.2f} %" for name, key in ACCURACIES.items() if key in values]
    words += [f"loss {values['train/loss']:.4f}"] if "train/loss" in values else []
    words += [f"lr {values['lr']:.3g}"] if "lr" in values else []
    words += [f"{values['images_per_second']:,.0f} img/s"] if "images_per_second" in values else []
    return "  ".join(words)

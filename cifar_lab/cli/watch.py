"""Repeated display of a status: redrawn in a terminal, one line per change elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live

from cifar_lab.cli import console
from cifar_lab.store.stopped_cell import count_states
from cifar_lab.terminal import is_terminal
from cifar_lab.text import many, many_are

if TYPE_CHECKING:
    from cifar_lab.inspect.status import AblationStatus

EVERY = 2.0
"""Seconds between two checks."""
PAUSE = 30.0
"""Seconds without a sign of life after which a runner is not just between two cells."""
Look = Callable[[], "list[AblationStatus]"]


def watch(
    look: Look,
    tree: Callable[[list[AblationStatus]], object] | None,
    show: Callable[[list[AblationStatus]], list[RenderableType]],
) -> int:
    """Repeat until nothing will change by itself, or Ctrl-C. `tree`: print its result as one line of JSON per change.

    If missing cells are trained by nobody, a message is printed, on standard error with JSON.
    """
    with suppress(KeyboardInterrupt):
        if tree is not None:
            _print_trees(look, tree)
        elif is_terminal(console.out.file):
            _redraw(look, show)
        else:
            _print_changes(look)
        for line in _abandoned(look()):
            (console.say if tree is not None else console.show)(line)
    return 0


def total(status: AblationStatus) -> str:
    """Return `15 cells: 12 finished, 2 running, 1 missing; about 20 min left at this pace`."""
    left = ""
    if not status.is_settled and status.left is not None:
        running = status.counts()["running"]
        left = f"; about {console.duration(status.left)} left at this pace" + ("" if running else ", one at a time")
    return f"{many(len(status.cells), 'cell')}: {counts(status)}{left}"


def counts(status: AblationStatus) -> str:
    """Return `12 finished, 2 running, 3 missing (1 stopped)`; a stopped one goes on from its checkpoint."""
    stopped = sum(cell.resumes for cell in status.cells if cell.state == "missing")
    return count_states(status.counts(), stopped)


def _redraw(look: Look, show: Callable[[list[AblationStatus]], list[RenderableType]]) -> None:
    with Live(console=console.out, auto_refresh=False, vertical_overflow="visible") as live:
        for found in _until_settled(look):
            live.update(Group(*show(found)), refresh=True)


def _print_trees(look: Look, tree: Callable[[list[AblationStatus]], object]) -> None:
    before = None
    for found in _until_settled(look):
        now = _states(found)
        if now != before:
            console.write(json.dumps(tree(found), allow_nan=False))
        before = now


def _print_changes(look: Look) -> None:
    before = None
    for found in _until_settled(look):
        now = _states(found)
        if before is None:
            _say_totals(found)
        elif now != before:
            _say_changes(before, now)
            if all(status.is_settled for status in found):
                _say_totals(found)
        before = now


def _until_settled(look: Look) -> Iterator[list[AblationStatus]]:
    while True:
        found = look()
        yield found
        if all(status.is_settled or is_idle(status) for status in found):
            return
        time.sleep(EVERY)


def is_idle(status: AblationStatus, now: float | None = None) -> bool:
    """Tell whether cells are missing and nobody trains them: none runs, and none was requested or ended just now.

    `now`: seconds since 1970; None: the present.
    """
    if status.is_settled or status.counts()["running"]:
        return False
    seen = max([status.setting.latest.time, *(cell.seen for cell in status.cells if cell.seen is not None)])
    return (time.time() if now is None else now) - seen / 1000 > PAUSE


def _abandoned(found: list[AblationStatus]) -> Iterator[str]:
    """Yield a message that nobody trains the missing cells, with the commands that would."""
    for status in found:
        if not is_idle(status):
            continue
        wanted = {cell.asked.fingerprint for cell in status.cells if cell.state == "missing" and not cell.stuck}
        commands: list[str] = []
        for invocation in reversed(status.setting.invocations):
            asked = wanted & {cell.fingerprint for cell in invocation.cells}
            commands += [invocation.again or invocation.command] if asked else []
            wanted -= asked
        missing = status.counts()["missing"]
        yield f"{status.setting.latest.ablation}: {many_are(missing, 'cell')} missing and nobody is training; to go on:"
        yield from (f"  {command}" for command in dict.fromkeys(commands))


def _states(found: list[AblationStatus]) -> dict[str, str]:
    """Return the state of every cell, by its name."""
    return {
        f"{status.setting.latest.ablation} {cell.name} ({cell.asked.fingerprint[:12]})": (
            cell.state if cell.silent is None else f"{cell.state}, without a sign of life"
        )
        for status in found
        for cell in status.cells
    }


def _say_totals(found: list[AblationStatus]) -> None:
    for status in found:
        console.show(f"{status.setting.latest.ablation} · {status.setting.title()}: {total(status)}")


def _say_changes(before: dict[str, str], now: dict[str, str]) -> None:
    for name, state in now.items():
        was = before.get(name, "not asked for")
        if was != state:
            console.show(f"{datetime.now():%H:%M:%S}  {name}: {was} → {state}")

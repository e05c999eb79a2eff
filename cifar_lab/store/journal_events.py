"""Events of a journal as types, one for each kind of line that has fields of its own."""

from __future__ import annotations

from pydantic import Field, ValidationError

from cifar_lab.store.record_files import MaybeExecution, Provenance
from cifar_lab.store.stored_json import Flag, JsonObject, Number, StoredJson, Text, Time, Whole, broken_rule


class JournalEvent(StoredJson):
    """Line of a journal; kinds without a class of their own have no other fields that are read."""

    kind: Text = Field(alias="event")
    time: Time


class AttemptEvent(JournalEvent):
    """Start of an attempt to train a cell; records of earlier versions name no execution."""

    execution: MaybeExecution = None
    provenance: Provenance = Provenance()


class StartEvent(AttemptEvent):
    """Training that begins from scratch."""


class ResumeEvent(AttemptEvent):
    """Training that goes on after `step` steps beyond `epoch`; both are 0 after a start."""

    epoch: Whole
    step: Whole


class PointsEvent(JournalEvent):
    """Metrics of one epoch."""

    epoch: Whole
    values: dict[str, Number]


class CheckpointEvent(JournalEvent):
    """Checkpoint that confirms the points up to `epoch`."""

    epoch: Whole
    step: Whole = 0


class FailedEvent(JournalEvent):
    """Failure of an attempt."""

    trace: Text


class EagerEvent(JournalEvent):
    """Reason why steps were not replayed as a CUDA graph although one was asked for."""

    why: Text


class TeachersEvent(JournalEvent):
    """Teachers of a distillation, loaded for an attempt."""

    cells: tuple[Text, ...]
    """Fingerprints."""
    compiled: Flag = False
    """True if their forward passes are compiled."""


class DamagedEvent(JournalEvent):
    """Damaged file that was set aside."""

    file: Text
    why: Text
    kept: Text | None = None
    """New name of the file; None if it was not there."""


class EndEvent(JournalEvent):
    """End of a training."""

    status: Text
    epoch: Whole | None = None
    step: Whole | None = None


KINDS: dict[str, type[JournalEvent]] = {
    "start": StartEvent,
    "resume": ResumeEvent,
    "points": PointsEvent,
    "checkpoint": CheckpointEvent,
    "failed": FailedEvent,
    "eager": EagerEvent,
    "teachers": TeachersEvent,
    "damaged": DamagedEvent,
    "end": EndEvent,
}
"""Class by kind of event; other kinds are read as `JournalEvent`."""


def parse_event(tree: JsonObject) -> JournalEvent | str:
    """Return a line of a journal as an event, or the rule that it violates."""
    name = tree.get("event")
    try:
        return (KINDS.get(name, JournalEvent) if isinstance(name, str) else JournalEvent).model_validate(tree)
    except ValidationError as error:
        return broken_rule(error)

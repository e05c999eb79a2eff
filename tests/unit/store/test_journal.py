"""The journal survives kills, and a reader that follows it sees each point once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cifar_lab.errors import DamageError
from cifar_lab.store import journal as journals
from cifar_lab.store.journal import FILE, Journal, JournalReader, read_events, read_points


def _epoch(journal: Journal, epoch: int, value: float = 0.5) -> None:
    journal.points(epoch, {"val/acc": value})
    journal.write("checkpoint", epoch=epoch, step=0)


def test_a_torn_line_is_passed_over_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    _epoch(Journal(tmp_path), 1)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"event": "points", "ti')
    _epoch(Journal(tmp_path), 2)
    assert [point.epoch for point in read_points(tmp_path)] == [1, 2]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"event": "start", ')
        file.flush()
        assert reader.events() == []
        file.write(b'"time": 1}\n')
    assert [event.as_json() for event in reader.events()] == [{"event": "start", "time": 1}]


def test_points_without_a_checkpoint_do_not_stand(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    _epoch(journal, 1)
    journal.points(2, {"val/acc": 0.6})
    assert [point.epoch for point in read_points(tmp_path)] == [1]


def test_an_epoch_lost_and_trained_again_counts_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("start")
    _epoch(journal, 1)
    journal.points(2, {"val/acc": 0.1})
    journal.write("resume", epoch=1, step=0)
    _epoch(journal, 2, 0.9)
    assert [(p.epoch, p.values["val/acc"]) for p in read_points(tmp_path)] == [(1, 0.5), (2, 0.9)]


def test_a_start_from_nothing_forgets_what_stood(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("start")
    for epoch in (1, 2, 3):
        _epoch(journal, epoch)
    journal.write("start")
    _epoch(journal, 1, 0.7)
    assert [(p.epoch, p.values["val/acc"]) for p in read_points(tmp_path)] == [(1, 0.7)]


def test_a_reader_sees_each_point_once_as_the_journal_grows(tmp_path: Path) -> None:
    reader, journal = JournalReader(tmp_path), Journal(tmp_path)
    assert reader.poll() == []
    _epoch(journal, 1)
    assert [point.epoch for point in reader.poll()] == [1]
    journal.points(2, {"val/acc": 0.6})
    assert reader.poll() == []
    journal.write("checkpoint", epoch=2, step=0)
    assert [point.epoch for point in reader.poll()] == [2]
    assert reader.poll() == []


def test_a_start_is_another_training_only_if_points_stood_before_it(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    _append(tmp_path, {"event": "start", "time": 10}, {"event": "start", "time": 20})
    assert (reader.poll(), reader.began, reader.attempted) == ([], 10, 20)
    _append(tmp_path, {"event": "points", "time": 30, "epoch": 1, "values": {}})
    _append(tmp_path, {"event": "end", "time": 40, "status": "finished"})
    _append(tmp_path, {"event": "start", "time": 50})
    assert (reader.poll(), reader.began, reader.latest) == ([], 50, 50)


def _append(folder: Path, *events: dict[str, object]) -> None:
    with (folder / FILE).open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.points(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    assert read_events(tmp_path)[0].as_json()["values"] == {"c": 1.0}


def test_a_checkpoint_in_an_epoch_settles_the_epochs_before_it(tmp_path: Path) -> None:
    """Not every epoch is saved: the points of those between wait for the next checkpoint, wherever it is."""
    journal, reader = Journal(tmp_path), JournalReader(tmp_path)
    _epoch(journal, 1)
    journal.points(2, {"val/acc": 0.6})
    journal.points(3, {"val/acc": 0.7})
    journal.write("checkpoint", epoch=3, step=7)
    assert [point.epoch for point in reader.poll()] == [1, 2, 3]


def test_a_checkpoint_settles_no_epoch_behind_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.points(1, {"val/acc": 0.5})
    journal.points(2, {"val/acc": 0.6})
    journal.write("checkpoint", epoch=1, step=0)
    assert [point.epoch for point in read_points(tmp_path)] == [1]


def test_who_only_looks_sees_each_epoch_once_and_at_once(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path), JournalReader(tmp_path)
    journal.points(1, {"val/acc": 0.5})
    assert [point.epoch for point in reader.written()] == [1]
    journal.points(2, {"val/acc": 0.6})
    journal.write("resume", epoch=1, step=0)
    journal.points(2, {"val/acc": 0.6})
    journal.points(3, {"val/acc": 0.7})
    assert [point.epoch for point in reader.written()] == [2, 3]


# Damage


def _changed(folder: Path, old: bytes, new: bytes) -> None:
    content = (folder / FILE).read_bytes()
    assert old in content
    (folder / FILE).write_bytes(content.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (b"0.5", b"0.7", "line 1: its checksum does not match"),
        (b"}\n", b"}J", "line 1: not JSON"),
        (b'{"event"', b'{"evenu"', "line 1: its checksum does not match"),
        (b"points", b"\0\0\0\0\0\0", "line 1: not JSON"),
    ],
)
def test_a_damaged_line_is_named_and_makes_no_curve(tmp_path: Path, old: bytes, new: bytes, rule: str) -> None:
    journal = Journal(tmp_path)
    _epoch(journal, 1)
    _epoch(journal, 2)
    _changed(tmp_path, old, new)
    assert journals.damaged_lines(tmp_path)[0].startswith(rule)
    with pytest.raises(DamageError, match=rule):
        read_points(tmp_path)
    assert all(event.kind != "points" or event.epoch == 2 for event in read_events(tmp_path))


def test_a_torn_line_says_so_and_is_no_damage(tmp_path: Path) -> None:
    _epoch(Journal(tmp_path), 1)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"event": "points", "ti')
    assert journals.damaged_lines(tmp_path) == []
    _epoch(Journal(tmp_path), 2)
    assert journals.damaged_lines(tmp_path) == []
    assert [event.kind for event in read_events(tmp_path)][2] == "torn"


def test_a_last_line_that_lacks_only_its_end_is_whole(tmp_path: Path) -> None:
    _epoch(Journal(tmp_path), 1)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content.removesuffix(b"\n"))
    Journal(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_damaged_line_before_a_torn_one_is_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    _epoch(journal, 1)
    _changed(tmp_path, b'"checkpoint"', b'"checkpoint')
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"event": "points", "ti')
    _epoch(Journal(tmp_path), 2)
    assert journals.damaged_lines(tmp_path) == ["line 2: not JSON"]


def test_lines_of_an_earlier_version_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    _append(tmp_path, {"event": "points", "time": 1, "epoch": 1, "values": {"val/acc": 0.5}})
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"event": "poi\n')  # torn then, and ended by who went on
    _append(tmp_path, {"event": "checkpoint", "time": 2, "epoch": 1, "step": 0})
    assert [point.epoch for point in read_points(tmp_path)] == [1]
    _epoch(Journal(tmp_path), 2)
    assert [point.epoch for point in read_points(tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    ("event", "rule"),
    [
        ({"event": "points", "time": 1, "epoch": "1", "values": {}}, "'epoch' is '1', not a whole number"),
        (
            {"event": "points", "time": 1, "epoch": 1, "values": {"a": "0.5"}},
            "'values.a' is '0.5', not a finite number",
        ),
        ({"event": "checkpoint", "time": 1}, "'epoch' is missing"),
        ({"event": ["points"], "time": 1}, "'event' is ['points'], not text"),
        ({"event": "end", "status": "finished"}, "'time' is missing"),
        ({"event": "end", "time": 1}, "'status' is missing"),
        ({"event": "eager", "time": 1}, "'why' is missing"),
        ({"event": "damaged", "time": 1, "why": "torn"}, "'file' is missing"),
        ({"event": "failed", "time": 1}, "'trace' is missing"),
        ({"event": "start", "time": 1, "execution": {"a": 1}}, "'execution.device' is missing"),
        ({"event": "torn", "time": 10**20}, "'time' is 100000000000000000000, not a time in ms"),
    ],
)
def test_a_line_without_a_checksum_has_the_fields_of_its_event(
    tmp_path: Path, event: dict[str, object], rule: str
) -> None:
    _append(tmp_path, event)
    (line,) = journals.damaged_lines(tmp_path)
    assert line.startswith(f"line 1: {rule}")


def test_who_follows_a_journal_that_is_kept_aside_reads_the_new_one_from_its_beginning(tmp_path: Path) -> None:
    poller, looker = JournalReader(tmp_path), JournalReader(tmp_path)
    journal = Journal(tmp_path)
    journal.write("start", provenance={"long": "x" * 1000})
    _epoch(journal, 1)
    _epoch(journal, 2)
    assert [point.epoch for point in poller.poll()] == [point.epoch for point in looker.written()] == [1, 2]
    (tmp_path / FILE).rename(tmp_path / "journal.jsonl.damaged")
    journal = Journal(tmp_path)
    journal.write("start")
    _epoch(journal, 1)
    assert [point.epoch for point in poller.poll()] == [point.epoch for point in looker.written()] == [1]
    assert poller.began == read_events(tmp_path)[0].time
    assert poller.damage == looker.damage == []


# Clocks


class Clock:
    """The wall clock and the one that nobody sets, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = 1_790_000_000.0, 50.0
        monkeypatch.setattr(journals.time, "time_ns", lambda: round(self.wall * 1e9))
        monkeypatch.setattr(journals.time, "monotonic", lambda: self.steady)


def test_durations_are_right_though_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    journal = Journal(tmp_path)
    journal.points(1, {})
    clock.steady += 60
    clock.wall += 60 - 3600
    journal.points(2, {})
    times = [event.time for event in read_events(tmp_path)]
    assert times == [1_790_000_000_000, 1_790_000_060_000]


def test_who_goes_on_after_the_clock_was_set_back_writes_no_earlier_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    Journal(tmp_path).points(1, {})
    clock.wall -= 3600
    clock.steady = 7.0
    journal = Journal(tmp_path)
    clock.steady += 2
    journal.points(2, {})
    times = [event.time for event in read_events(tmp_path)]
    assert times == [1_790_000_000_000, 1_790_000_002_000]

"""A check of a runs folder finds what is wrong, and a repair deletes nothing."""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made import records

from cifar_lab.cli import run
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.inspect.fsck import FsckReport, check_runs
from cifar_lab.inspect.repair import new_place, repair
from cifar_lab.search.journal_file import first_damage
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal
from cifar_lab.train import checkpoint


def mended(record: CellRecord) -> tuple[FsckReport, Path]:
    """Repair the runs folder of `record`: what is left to find, and where files went."""
    runs = record.folder.parent
    place = new_place(runs)
    repair(check_runs(runs).problems, runs, place)
    return check_runs(runs), place


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_sound_has_no_problems(finished: CellRecord) -> None:
    found = check_runs(finished.folder.parent)
    assert (found.problems, found.cells, found.running, found.unsealed) == ((), 1, 0, 0)


def test_a_check_writes_nothing(stopped: CellRecord) -> None:
    stopped.checkpoint.write_bytes(b"damaged")
    runs = stopped.folder.parent
    before = content(runs)
    assert check_runs(runs).damage
    assert content(runs) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "finished"}'])
def test_a_result_that_is_proved_is_written_again_to_the_last_digit(finished: CellRecord, text: str) -> None:
    before = finished.result()
    (finished.folder / "result.json").write_text(text)
    found, place = mended(finished)
    assert found.problems == ()
    assert finished.result() == before
    assert (place / finished.fingerprint / "result.json").read_text() == text


def test_a_result_that_is_lost_is_written_again_if_it_is_proved(finished: CellRecord) -> None:
    before = finished.result()
    (finished.folder / "result.json").unlink()
    (problem,) = check_runs(finished.folder.parent).damage
    assert problem.what == "not there, although the cell has ended"
    found, _ = mended(finished)
    assert found.problems == ()
    assert finished.result() == before


def test_a_cell_that_was_killed_before_its_result_was_written_is_no_damage(finished: CellRecord) -> None:
    (finished.folder / "result.json").unlink()
    _save_nothing(finished)
    assert check_runs(finished.folder.parent).damage == ()


def _save_nothing(record: CellRecord) -> None:
    """The state of a training that has done nothing yet."""
    counters = {"epoch": 0, "step": 0, "images_seen": 0, "epoch_seconds": 0.0, "seconds": 0.0}
    state: dict[str, Any] = dict.fromkeys(checkpoint.PARTS)
    checkpoint.save(record.checkpoint, {**state, "counters": counters}, record.fingerprint)


def _change_predictions(record: CellRecord) -> None:
    record.predictions.write_bytes(record.predictions.read_bytes()[:-1])


def _change_journal(record: CellRecord) -> None:
    record.journal.write_bytes(record.journal.read_bytes().replace(b"0.", b"1.", 1))


def _change_weights(record: CellRecord) -> None:
    record.weights.write_bytes(record.weights.read_bytes()[:-1] + b"\x7f")


@pytest.mark.parametrize("change", [_change_predictions, _change_journal, _change_weights])
def test_a_result_that_nothing_proves_is_set_aside_with_its_record(
    finished: CellRecord, job: CellJob, change: Callable[[CellRecord], None]
) -> None:
    change(finished)
    (finished.folder / "result.json").write_text("{")
    before = content(finished.folder)
    found, place = mended(finished)
    assert found.problems == ()
    assert finished.state() == "missing"
    assert content(place / finished.fingerprint) == before
    train_cell(job)
    assert finished.state() == "finished"


def test_a_changed_digit_in_a_record_of_an_earlier_version_is_told_by_its_predictions(finished: CellRecord) -> None:
    result = finished.result()
    assert result is not None
    tree: dict[str, Any] = result.as_json()
    del tree["files"]
    (finished.folder / "result.json").write_text(json.dumps(tree))
    assert check_runs(finished.folder.parent).problems == ()
    tree["metrics"]["test/acc"] += 0.1
    (finished.folder / "result.json").write_text(json.dumps(tree))
    (problem,) = check_runs(finished.folder.parent).damage
    assert "and its predictions come to" in problem.what
    assert problem.mend == "set aside"


def test_a_file_beside_a_result_that_is_damaged_is_named_and_left(finished: CellRecord) -> None:
    _change_weights(finished)
    found, place = mended(finished)
    (problem,) = found.damage
    assert (problem.path, problem.mend) == (finished.weights, "none")
    assert "its checksum does not match" in problem.what
    assert finished.state() == "finished"
    assert not place.exists()


def test_a_training_whose_checkpoint_is_damaged_begins_anew_after_a_repair(stopped: CellRecord, job: CellJob) -> None:
    stopped.checkpoint.write_bytes(stopped.checkpoint.read_bytes().replace(b"\0", b"\1", 1))
    (problem,) = check_runs(stopped.folder.parent).damage
    assert (problem.kind, problem.path) == ("training", stopped.checkpoint)
    found, place = mended(stopped)
    assert found.problems == ()
    assert {path.name for path in (place / stopped.fingerprint).iterdir()} == {"checkpoint.pt", "journal.jsonl"}
    train_cell(job)
    assert stopped.state() == "finished"


def test_a_checkpoint_of_another_cell_is_damage(stopped: CellRecord) -> None:
    checkpoint.save(stopped.checkpoint, checkpoint.load_checkpoint(stopped.checkpoint) or {}, "0" * 64)
    (problem,) = check_runs(stopped.folder.parent).damage
    assert "the checkpoint of another cell" in problem.what


def test_a_failure_that_cannot_be_read_is_moved_away_and_the_training_goes_on(stopped: CellRecord) -> None:
    records.fail(stopped)
    (stopped.folder / "failure.json").write_text("{")
    assert stopped.state() == "damaged"
    found, place = mended(stopped)
    assert found.problems == ()
    assert stopped.state() == "missing"
    assert stopped.checkpoint.exists()


def test_what_the_dead_left_behind_is_no_damage_and_is_moved(finished: CellRecord) -> None:
    runs, old = finished.folder.parent, time.time() - 7200
    (runs / "invocations").mkdir()
    left = [finished.folder / ".cell.json.7.partial", runs / "invocations" / ".x.json.7.partial",
            finished.folder / "owner.json"]  # fmt: skip
    for path in left[:2]:
        path.write_text("half")
        os.utime(path, (old, old))
    (finished.folder / "owner.json").write_text('{"host": "gone", "pid": 1, "time": 1}')
    found = check_runs(runs)
    assert found.damage == ()
    assert {problem.path for problem in found.problems} == set(left)
    after, place = mended(finished)
    assert after.problems == ()
    assert len(content(place)) == 3


def test_a_cell_that_is_trained_now_is_left_alone(stopped: CellRecord) -> None:
    stopped.checkpoint.write_bytes(b"half")
    runs = stopped.folder.parent
    problems = check_runs(runs).problems
    with stopped.lock():
        found = check_runs(runs)
        assert (found.problems, found.running) == ((), 1)
        (outcome,) = repair(problems, runs, new_place(runs))
        assert outcome.left == "its cell is trained now"
    assert stopped.checkpoint.exists()


def test_notes_and_studies_are_checked(finished: CellRecord) -> None:
    runs = finished.folder.parent
    (runs / "invocations").mkdir()
    (runs / "invocations" / "20260101T000000.000-x.json").write_text("{}")
    (runs / "studies.journal").write_bytes(b'{"op_code": 10, "worker_id": "a"}\n\0\0\0\n{"op_code": 1')
    found = check_runs(runs, first_damage)
    assert [(problem.kind, problem.mend) for problem in found.damage] == [("note", "move"), ("study", "none")]
    assert found.damage[1].what == "line 2: not JSON"


def test_the_command_says_what_it_would_do_does_it_and_says_that_all_is_well(
    finished: CellRecord, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["fsck", "--no-mlflow", "--runs", str(finished.folder.parent)]
    (finished.folder / "result.json").write_text("{")
    assert run(line) == 1
    said = capsys.readouterr().out
    assert "result.json: with --repair written again from the copy in predictions.npz" in said
    assert "1 cell and 0 invocations checked: 1 damaged" in said
    assert run([*line, "--repair", "--json"]) == 0
    tree: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [(problem["mend"], problem["repaired"]) for problem in tree["problems"]] == [("rebuild", True)]
    assert Path(tree["moved_to"]).is_dir()
    assert run(line) == 0
    assert "1 cell and 0 invocations checked: nothing is damaged" in capsys.readouterr().out
    assert run(["fsck", "--runs", "nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_cell_of_an_earlier_version_is_counted(finished: CellRecord) -> None:
    tree = finished.cell()
    assert tree is not None
    (finished.folder / "cell.json").write_text(json.dumps(tree.as_json()))
    assert check_runs(finished.folder.parent).unsealed == 1


def test_a_journal_without_an_epoch_that_its_checkpoint_has_is_damage(stopped: CellRecord, job: CellJob) -> None:
    state = checkpoint.load_checkpoint(stopped.checkpoint) or {}
    state["counters"]["epoch"] = 1
    torch.manual_seed(0)
    checkpoint.save(stopped.checkpoint, state, replace(job).fingerprint)
    (problem,) = check_runs(stopped.folder.parent).damage
    assert problem.what == "damaged: the metrics of epoch 1 are not there"
    Journal(stopped.folder).points(1, {"val/acc": 0.1})
    assert check_runs(stopped.folder.parent).problems == ()


def test_a_record_of_another_cell_is_damage(finished: CellRecord) -> None:
    other = CellRecord(finished.folder.with_name("a" * 64))
    finished.folder.rename(other.folder)
    assert other.state() == "damaged"
    assert "the record of another cell, " in str(other.damage())
    (other.folder / "result.json").unlink()
    (other.folder / "cell.json").unlink()
    assert all(problem.mend != "rebuild" for problem in check_runs(other.folder.parent).problems)


def test_a_result_without_its_cell_is_damage(finished: CellRecord) -> None:
    (finished.folder / "cell.json").unlink()
    assert finished.state() == "damaged"
    (problem,) = check_runs(finished.folder.parent).problems
    assert problem.what == "damaged: not there, although the cell has ended"


def test_every_member_of_the_predictions_proves_a_result(finished: CellRecord) -> None:
    (finished.folder / "result.json").unlink()
    with zipfile.ZipFile(finished.predictions) as archive:
        place = archive.getinfo("confidence.npy").header_offset + 100  # behind the header of the member
    content = bytearray(finished.predictions.read_bytes())
    content[place] ^= 1
    finished.predictions.write_bytes(content)
    assert all(problem.mend != "rebuild" for problem in check_runs(finished.folder.parent).problems)


def test_what_is_no_folder_or_no_regular_file_is_named(finished: CellRecord) -> None:
    runs = finished.folder.parent
    (runs / ("b" * 64)).symlink_to("nowhere")
    (runs / ("c" * 64)).symlink_to("c" * 64)
    (runs / ("d" * 64)).write_text("")
    (finished.folder / "result.json").unlink()
    os.mkfifo(finished.folder / "result.json")
    (runs / "invocations").write_text("")
    paths = {problem.path.name for problem in check_runs(runs).problems}
    assert paths == {"b" * 64, "c" * 64, "d" * 64, "result.json", "invocations"}


def test_predictions_that_were_not_packed_are_no_damage_of_a_packed_study(
    finished: CellRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "study.zip"
    assert run(["pack", "--no-predictions", "--runs", str(finished.folder.parent), "-o", str(output)]) == 0
    assert "without weights, without predictions" in capsys.readouterr().out
    with zipfile.ZipFile(output) as archive:
        assert not [name for name in archive.namelist() if name.endswith("predictions.npz")]
        assert "Weights and predictions are not here" in archive.read("README.md").decode()
    assert run(["fsck", "--runs", str(output)]) == 0


def test_a_packed_study_without_weights_is_not_damaged_and_a_folder_without_them_is(
    finished: CellRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    runs, output = finished.folder.parent, tmp_path / "study.zip"
    assert run(["pack", "--runs", str(runs), "-o", str(output)]) == 0
    finished.weights.unlink()
    assert run(["fsck", "--no-mlflow", "--runs", str(runs)]) == 1
    assert run(["fsck", "--runs", str(output)]) == 0
    finished.predictions.unlink()
    capsys.readouterr()
    assert run(["pack", "--runs", str(runs), "-o", str(output)]) == 0
    assert run(["fsck", "--runs", str(output)]) == 1
    told = "".join(capsys.readouterr().out.split())
    assert "predictions.npz" in told
    assert "weights" not in told.replace("withoutweights", "")

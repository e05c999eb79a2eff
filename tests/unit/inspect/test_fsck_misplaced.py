"""Files of another cell, things of another kind, and what may not be read: each is named, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made import records
from made.bounded import bounded
from made.misplaced import clear, deny, entries, put_file, put_folder, put_pipe, swap
from made.tiny_cells import TINY, stop_in_first_epoch, tiny_job

from cifar_lab.cli import run
from cifar_lab.errors import CellError, DamageError, TrackingError
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.inspect.cleanup import find_items
from cifar_lab.results.cell_results import read_cell_results
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.record_files import DataSource

COPY = "e" * 64
NO_FILE = "not a regular file"


class Lab(NamedTuple):
    """A runs folder: two finished cells, one that was stopped in its first epoch, and the note that asks for them."""

    runs: Path
    a: CellJob
    b: CellJob
    stopped: CellJob
    note: Path

    def tree(self, line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
        """Return the exit code of `fsck …`, and what it prints as JSON."""
        capsys.readouterr()
        code = run([*line.split(), "--json", "--no-mlflow", "--runs", str(self.runs)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, json.loads(captured.out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """Return a runs folder with the three cells, to be copied."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    a, b, stopped = (tiny_job(runs, few_images, seed) for seed in range(3))
    train_cell(a)
    train_cell(b)
    stop_in_first_epoch(stopped)
    return runs


@pytest.fixture
def lab(tmp_path: Path, few_images: Path, trained: Path) -> Iterator[Lab]:
    runs = Path(shutil.copytree(trained, tmp_path / "runs"))
    a, b, stopped = (tiny_job(runs, few_images, seed) for seed in range(3))
    asked = [records.cell_ref(job.fingerprint, "a", job.seed, recipe=TINY.digest()) for job in (a, b, stopped)]
    data = DataSource(name="x", kind="folder", hash=a.data_hash, source=a.data)
    note = records.invocation(*asked, id="20261122T210000.000-tiny", ablation="tiny", control="a", data=data)
    note.write(runs)
    with bounded():
        yield Lab(runs, a, b, stopped, runs / "invocations" / f"{note.id}.json")
    for path in (runs, runs / a.fingerprint, runs / "invocations"):
        if path.is_dir():
            path.chmod(0o755)


def swap_all(lab: Lab, *names: str) -> None:
    for name in names:
        swap(lab.a.record.folder / name, lab.b.record.folder / name)


def copy(lab: Lab, source: CellJob, target: Path) -> None:
    clear(target)
    shutil.copytree(source.record.folder, target)


def without_checksums(lab: Lab) -> None:
    """Make the result of `a` one of an earlier version, which vouches for no file."""
    result = lab.a.record.result()
    assert result is not None
    tree = result.as_json()
    del tree["files"]
    (lab.a.record.folder / "result.json").write_text(json.dumps(tree))


class Fault(NamedTuple):
    """One fault in a runs folder, and the findings that `fsck` is to report."""

    cause: Callable[[Lab], object]
    problems: dict[str, tuple[str, str]]
    """By path in the runs folder, with `a`, `b`, `stopped` for cells: a part of what is wrong, and the mend."""


OTHERS = "the record of another cell, "
ASIDE, MOVE, NONE, REBUILD = "set aside", "move", "none", "rebuild"
FAULTS = {
    "cell.json swapped": Fault(
        lambda lab: swap_all(lab, "cell.json"), {"a/cell.json": (OTHERS, ASIDE), "b/cell.json": (OTHERS, ASIDE)}
    ),
    "result.json swapped": Fault(
        lambda lab: swap_all(lab, "result.json"),
        {"a/result.json": (OTHERS, REBUILD), "b/result.json": (OTHERS, REBUILD)},
    ),
    "both swapped": Fault(
        lambda lab: swap_all(lab, "cell.json", "result.json"),
        {"a/result.json": (OTHERS, ASIDE), "b/result.json": (OTHERS, ASIDE)},
    ),
    "predictions swapped": Fault(
        lambda lab: swap_all(lab, "predictions.npz"),
        {f"{cell}/predictions.npz": ("its checksum does not match", NONE) for cell in "ab"},
    ),
    "a finished cell's cell.json in an unfinished one": Fault(
        lambda lab: shutil.copy(lab.a.record.folder / "cell.json", lab.stopped.record.folder),
        {"stopped/cell.json": (OTHERS, ASIDE)},
    ),
    "a copy of a folder": Fault(
        lambda lab: copy(lab, lab.a, lab.runs / COPY), {f"{COPY}/result.json": (OTHERS, ASIDE)}
    ),
    "a copy of an unfinished folder": Fault(
        lambda lab: copy(lab, lab.stopped, lab.runs / COPY), {f"{COPY}/cell.json": (OTHERS, ASIDE)}
    ),
    "a copy in the place of another folder": Fault(
        lambda lab: copy(lab, lab.a, lab.b.record.folder), {"b/result.json": (OTHERS, ASIDE)}
    ),
    "a file for a record": Fault(lambda lab: put_file(lab.a.record.folder), {"a": ("not a folder", MOVE)}),
    "a pipe for a record": Fault(lambda lab: put_pipe(lab.a.record.folder), {"a": ("not a folder", MOVE)}),
    "a file for the notes": Fault(
        lambda lab: put_file(lab.runs / "invocations"), {"invocations": ("Not a directory", NONE)}
    ),
    "a folder for a note": Fault(lambda lab: put_folder(lab.note), {"invocations/note": ("Is a directory", MOVE)}),
    "a pipe for a note": Fault(lambda lab: put_pipe(lab.note), {"invocations/note": (NO_FILE, MOVE)}),
    "a file for superseded": Fault(
        lambda lab: put_file(lab.runs / "superseded"), {"superseded": ("not a folder", MOVE)}
    ),
    "a folder for studies": Fault(
        lambda lab: put_folder(lab.runs / "studies.journal"), {"studies.journal": ("Is a directory", NONE)}
    ),
    "a pipe for studies": Fault(
        lambda lab: put_pipe(lab.runs / "studies.journal"), {"studies.journal": (NO_FILE, NONE)}
    ),
    **{
        f"a {kind} for {cell}/{name}": Fault(
            lambda lab, put=put, cell=cell, name=name: put(getattr(lab, cell).record.folder / name),  # type: ignore[misc]
            {f"{cell}/{name}": (rule, mend)},
        )
        for kind, put, rule in (("pipe", put_pipe, NO_FILE), ("folder", put_folder, "cannot be read ("))
        for cell, name, mend in (
            ("a", "cell.json", ASIDE), ("a", "result.json", REBUILD), ("a", "failure.json", MOVE),
            ("a", "journal.jsonl", NONE), ("a", "weights.safetensors", NONE), ("a", "predictions.npz", NONE),
            ("a", "confusion.csv", NONE), ("a", "code.diff", NONE), ("stopped", "cell.json", ASIDE),
            ("stopped", "result.json", ASIDE), ("stopped", "owner.json", MOVE), ("stopped", "checkpoint.pt", MOVE),
            ("stopped", "journal.jsonl", MOVE), ("stopped", "lock", MOVE), ("stopped", "weights.safetensors", MOVE),
            ("stopped", "predictions.npz", MOVE), ("stopped", "confusion.csv", MOVE), ("stopped", "code.diff", MOVE),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_it_is_named_and_a_repair_loses_nothing_and_says_what_it_mended(
    lab: Lab, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    fault.cause(lab)
    before = entries(lab.runs)
    code, tree = lab.tree("fsck", capsys)
    assert (code, entries(lab.runs)) == (1, before)
    assert _named(lab, tree) == {path: mend for path, (_, mend) in fault.problems.items()}
    assert all(fault.problems[_place(lab, problem)][0] in problem["what"] for problem in tree["problems"])

    is_mended = all(mend != NONE for _, mend in fault.problems.values())
    code, tree = lab.tree("fsck --repair", capsys)
    assert code == (0 if is_mended else 1)
    assert {problem["repaired"] for problem in tree["problems"]} == {is_mended}
    after = entries(lab.runs)
    moved = str(Path(tree["moved_to"]).relative_to(lab.runs)) if tree["moved_to"] else "nowhere"
    lost = [path for path, entry in before.items() if entry not in (after.get(path), after.get(f"{moved}/{path}"))]
    assert lost == []

    code, tree = lab.tree("fsck", capsys)
    assert (code, tree["problems"] == []) == ((0, True) if is_mended else (1, False))


def _named(lab: Lab, tree: dict[str, Any]) -> dict[str, str]:
    """Return the mend of each problem by its path."""
    return {_place(lab, problem): problem["mend"] for problem in tree["problems"]}


def _place(lab: Lab, problem: dict[str, Any]) -> str:
    path = str(Path(problem["path"]).relative_to(lab.runs)).replace(lab.note.name, "note")
    for name in ("a", "b", "stopped"):
        path = path.replace(getattr(lab, name).fingerprint, name)
    return path


@pytest.mark.parametrize("name", ["checkpoint.pt", "journal.jsonl"])
@pytest.mark.parametrize("put", [put_pipe, put_folder])
def test_a_training_begins_anew_beside_what_is_no_file(lab: Lab, name: str, put: Callable[[Path], None]) -> None:
    put(lab.stopped.record.folder / name)
    train_cell(lab.stopped)
    assert lab.stopped.record.state() == "finished"
    assert (lab.stopped.record.folder / f"{name}.damaged").exists()


@pytest.mark.parametrize("name", ["lock", "weights.safetensors", "predictions.npz", "confusion.csv", "code.diff"])
@pytest.mark.parametrize("put", [put_pipe, put_folder])
def test_a_training_refuses_what_stands_in_its_way_until_it_is_mended(
    lab: Lab, name: str, put: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(lab.stopped.record.folder / name)
    with pytest.raises(CellError, match=rf"{name}: damaged: {NO_FILE}; `cifar-lab fsck`"):
        train_cell(lab.stopped)
    assert lab.tree("fsck --repair", capsys)[0] == 0
    train_cell(lab.stopped)
    assert lab.stopped.record.state() == "finished"


def test_a_result_of_another_cell_is_not_believed(lab: Lab) -> None:
    asked = [CellRef(**cell) for cell in json.loads(lab.note.read_text())["cells"]]
    assert [each.state for each in read_cell_results(asked, lab.runs)] == ["finished", "finished", "missing"]
    swap_all(lab, "cell.json", "result.json")
    for each in read_cell_results(asked[:2], lab.runs):
        assert (each.state, each.metrics) == ("damaged", {})
    with pytest.raises(DamageError, match=OTHERS + lab.b.fingerprint[:12]):
        lab.a.record.result()
    with pytest.raises(DamageError, match=OTHERS + lab.a.fingerprint[:12]):
        lab.b.record.cell()


def test_a_record_that_a_redo_set_aside_is_still_its_own(lab: Lab) -> None:
    place = lab.a.record.set_aside()
    assert CellRecord(place).state() == "finished"
    swap(place / "result.json", lab.b.record.folder / "result.json")
    assert CellRecord(place).state() == "damaged"


@pytest.mark.parametrize("name", ["confusion.csv", "journal.jsonl", "weights.safetensors", "predictions.npz"])
def test_a_result_without_checksums_refuses_a_pipe_beside_it(
    lab: Lab, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    without_checksums(lab)
    put_pipe(lab.a.record.folder / name)
    with pytest.raises(DamageError, match=rf"{name}: cannot be read \({NO_FILE}\)"):
        lab.a.record.require_sound(lab.a.record.folder / name)
    _, tree = lab.tree("fsck", capsys)
    assert _named(lab, tree) == {f"a/{name}": NONE}


def test_a_file_for_superseded_refuses_a_redo_until_it_is_moved(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    put_file(lab.runs / "superseded")
    with pytest.raises(TrackingError, match="superseded: not a folder; move it away"):
        lab.a.record.set_aside()
    assert lab.a.record.state() == "finished"
    assert lab.tree("fsck --repair", capsys)[0] == 0
    lab.a.record.set_aside()
    assert lab.a.record.state() == "missing"


def test_a_file_for_damaged_is_named_and_refuses_a_repair(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    put_file(lab.runs / "damaged")
    (lab.a.record.folder / "result.json").write_text("{")
    before = entries(lab.runs)
    _, tree = lab.tree("fsck", capsys)
    assert _named(lab, tree) == {"a/result.json": REBUILD, "damaged": NONE}
    assert run(["fsck", "--repair", "--runs", str(lab.runs)]) == 2
    assert "damaged: not a folder; move it away" in capsys.readouterr().err
    assert entries(lab.runs) == before


def test_an_unreadable_journal_does_not_hinder_the_cleaning_of_other_cells(lab: Lab) -> None:
    put_pipe(lab.stopped.record.journal)
    (lab.a.record.folder / ".cell.json.7.partial").write_text("half")
    assert [item.path.name for item in find_items(lab.runs, 0)] == [".cell.json.7.partial"]


def test_records_and_notes_of_the_first_version_are_no_damage(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    later = {"cell.json": ("fingerprint", "numerics", "parameters", "macs", "classes", "sha256"),
             "result.json": ("fingerprint", "files", "sha256")}  # fmt: skip
    for name, fields in later.items():
        path = lab.a.record.folder / name
        tree = json.loads(path.read_text())
        path.write_text(json.dumps({field: value for field, value in tree.items() if field not in fields}))
    lines = map(json.loads, lab.a.record.journal.read_text().splitlines())
    plain = [{field: value for field, value in line.items() if field != "sha256"} for line in lines]
    lab.a.record.journal.write_text("".join(json.dumps(line) + "\n" for line in plain))
    first = {"error": "e", "trace": "t"}
    (lab.stopped.record.folder / "failure.json").write_text(json.dumps(first))
    code, tree = lab.tree("fsck", capsys)
    assert (code, tree["problems"], tree["unsealed"]) == (0, [], 1)
    failure = lab.stopped.record.failure()
    assert failure is not None
    assert (lab.a.record.state(), failure.as_json()) == ("finished", first)


# What may not be read


@pytest.mark.parametrize(
    "place", ["{a}", "{a}/cell.json", "{a}/result.json", "{a}/weights.safetensors", "{stopped}/checkpoint.pt",
              "{stopped}/journal.jsonl", "invocations", "invocations/{note}"],
)  # fmt: skip
def test_what_may_not_be_read_is_named_and_left_where_it_is(
    lab: Lab, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"a": lab.a.fingerprint, "stopped": lab.stopped.fingerprint, "note": lab.note.name}
    path = lab.runs / place.format(**names)
    before = entries(lab.runs)
    with monkeypatch.context() as patch:
        deny(path, patch)
        for line in ("fsck", "fsck --repair"):
            code, tree = lab.tree(line, capsys)
            assert code == 1
            (problem,) = tree["problems"]
            assert (problem["path"], problem["mend"]) == (str(path), NONE)
            assert "cannot be read (Permission denied)" in problem["what"]
            if problem["kind"] != "file":
                assert f"chmod -R u+rwX {path}" in problem["words"]
    path.chmod(0o755)
    assert entries(lab.runs) == before
    assert lab.tree("fsck", capsys)[0] == 0


def test_runs_that_may_not_be_listed_are_refused_in_one_line(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["fsck", "--no-mlflow", "--runs", str(lab.runs)]
    access = os.access
    with monkeypatch.context() as patch:  # they may be listed, and nothing in them be reached
        patch.setattr(os, "access", lambda path, mode: not mode & os.X_OK and access(path, mode))
        assert run(line) == 2
    assert capsys.readouterr().err == f"cifar-lab: --runs {lab.runs}: cannot be read (Permission denied)\n"
    with monkeypatch.context() as patch:
        deny(lab.runs, patch)
        assert run(line) == 2
    lab.runs.chmod(0o755)
    assert "is not readable" in capsys.readouterr().err


def test_lines_for_people_name_a_folder_once_and_what_is_left(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    put_file(lab.a.record.folder)
    put_file(lab.runs / "invocations")
    assert run(["fsck", "--repair", "--no-mlflow", "--runs", str(lab.runs)]) == 1
    lines = capsys.readouterr().out.splitlines()
    short = lab.a.fingerprint[:12]
    assert f"{short}: moved away; the cell is trained anew when it is asked for again" in lines
    assert "invocations: it is left as it is; make it a folder that can be read, or bring back a copy" in lines
    assert not any(lab.a.fingerprint in line for line in lines)
    assert any(line.endswith("2 damaged, 1 of 2 mended") for line in lines)

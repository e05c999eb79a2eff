"""Studies that are damaged, torn, emptied or locked for ever: one line that names the place, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from made import records
from made.examples import examples
from made.spaces import Told
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from cifar_lab.cli import run
from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.search import journal_file
from cifar_lab.search.journal_file import CHECKSUM, JournalFile, SymlinkLock
from cifar_lab.search.storage import open_storage
from cifar_lab.search.study import NOTE
from cifar_lab.search.trial_jobs import trial_name
from cifar_lab.store.invocation import CellRef

TIMES = int(os.environ.get("CIFAR_LAB_FAULTS", examples(30)))
COMMANDS = {
    "sweep": "sweep --study wide --trials 4 --space optimizer --scale small --data nowhere.zip --offline -y",
    "status": "sweep-status wide",
    "status of all": "sweep-status",
    "best": "sweep-best wide",
    "importance": "sweep-importance wide",
    "report": "sweep-report wide -o page.html",
    "ablate": "ablate-best wide --data nowhere.zip",
}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a study of three trials."""
    runs = tmp_path_factory.mktemp("told") / "runs"
    made = Told(storage=open_storage(None, runs))
    for accuracy in (0.8, 0.85, 0.82):
        made.trained(accuracy)
    return (runs / "studies.journal").read_bytes()


@pytest.fixture
def journal(folder: Path, content: bytes) -> Path:
    (folder / "runs").mkdir()
    (folder / "runs/studies.journal").write_bytes(content)
    return folder / "runs/studies.journal"


def as_written_by_others(content: bytes) -> bytes:
    """The same operations without checksums, as Optuna's own backend and earlier versions write them."""
    return b"".join(CHECKSUM.sub(b"}\n", line) for line in content.splitlines(keepends=True))


def complaint(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """The one line that a command is refused with."""
    capsys.readouterr()
    assert run(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [text for text in captured.err.splitlines() if text.startswith("cifar-lab: ")]
    assert len(lines) == 1, captured.err
    return lines[0]


# Damage


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS.keys())
def test_damage_is_named_by_its_line_by_every_command(
    line: str, journal: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = content.splitlines(keepends=True)
    lines[4] = lines[4].replace(b"op_code", b"op_c\xffde")
    journal.write_bytes(b"".join(lines))
    assert "studies.journal:5: damaged" in complaint(capsys, line)
    assert journal.read_bytes() == b"".join(lines), "a damaged study is left as it is"


def test_a_changed_digit_is_seen(journal: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert b"0.85" in content
    journal.write_bytes(content.replace(b"0.85", b"0.95"))
    assert "its checksum is of another line" in complaint(capsys, "sweep-best wide")


def test_no_damage_anywhere_is_used_or_a_traceback(content: bytes, tmp_path: Path) -> None:
    chance, path = random.Random(0), tmp_path / "studies.journal"
    for _ in range(TIMES):
        start = chance.randrange(len(content) - 1)
        damaged = bytearray(content)
        if chance.random() < 0.5:
            damaged[start] ^= 1 << chance.randrange(8)
        else:
            end = min(len(content), start + chance.choice([4, 64, 4096]))
            damaged[start:end] = bytes(end - start)
        path.write_bytes(damaged)
        try:
            studies = optuna.get_all_study_summaries(open_storage(str(path), tmp_path))
        except UsageError:
            continue
        # What is left is what stands before a last line that lost its end.
        logs, right = list(JournalFile(path).read_logs(0)), list(map(json.loads, content.splitlines()))
        for log, whole in zip(logs, right, strict=False):
            assert {**whole, "crc32": 0} == {**{name: log.get(name) for name in whole}, "crc32": 0}, (
                "an operation was changed"
            )
        assert len(studies) <= 1


def test_no_damage_of_a_journal_without_checksums_is_a_traceback(content: bytes, folder: Path) -> None:
    chance, plain = random.Random(1), as_written_by_others(content)
    (folder / "runs").mkdir()
    for i in range(TIMES):
        start = chance.randrange(len(plain) - 1)
        damaged = bytearray(plain)
        damaged[start] = chance.choice(b'0123456789abcxyz{}[]",:-.') if i % 2 else damaged[start] ^ (1 << (i % 8))
        (folder / "runs/studies.journal").write_bytes(damaged)
        for line in ("sweep-status", "sweep-status wide", "sweep-best wide --json", "sweep-importance wide"):
            assert run(line.split()) in {0, 1, 2}, (line, start)


def test_a_study_without_checksums_is_read(journal: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    journal.write_bytes(as_written_by_others(content))
    assert run(["sweep-best", "wide", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["value"] == 0.85


def test_optunas_own_backend_reads_what_is_written(journal: Path) -> None:
    study = optuna.load_study(study_name="wide", storage=JournalStorage(JournalFileBackend(str(journal))))
    assert [trial.value for trial in study.trials] == [0.8, 0.85, 0.82]
    study.tell(study.ask(), 0.1)
    again = optuna.load_study(study_name="wide", storage=open_storage(str(journal), journal.parent))
    assert len(again.trials) == 4


def test_an_emptied_journal_is_damage_where_there_was_a_study(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.write_bytes(b"")
    (journal.parent / "invocations").mkdir()
    (journal.parent / "invocations/20260101T000000.000-sweep.wide.json").write_text("{}")
    for line in COMMANDS.values():
        assert "studies.journal: emptied" in complaint(capsys, line)


def with_note(journal: Path, trials: int) -> None:
    """Write the note of the study, which names so many trials, and let the study name its note."""
    runs = journal.parent
    asked = [
        CellRef(
            variant=trial_name(i),
            seed=0,
            fingerprint=f"{i:064x}",
            recipe="r",
            parameters=1,
            parameters_trained=1,
            macs=1,
        )
        for i in range(trials)
    ]
    note = records.invocation(
        *asked, id="20260101T000000.000-sweep.wide", ablation="sweep.wide", control="t000", command="cifar-lab sweep"
    )
    note.write(runs)
    study = optuna.load_study(study_name="wide", storage=open_storage(None, runs))
    study.set_user_attr(NOTE, note.id)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in {"sweep", "ablate"}])
def test_a_study_that_lost_trials_is_damage_where_its_note_names_more(
    journal: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_note(journal, 4)
    assert run(COMMANDS[command].split()) == (1 if command == "status of all" else 2)
    error = capsys.readouterr().err
    assert "its storage has 3 trials, and its note" in error
    assert "names trial 3: the storage lost its end" in error


def test_a_study_with_all_trials_of_its_note_is_whole(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_note(journal, 3)
    assert run(COMMANDS["status"].split()) == 0
    assert "lost its end" not in capsys.readouterr().err


def test_fsck_names_a_changed_digit_in_a_journal_of_studies(
    journal: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fsck", "--no-mlflow"]) == 0
    lines = content.splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b"0.8" in line)
    lines[number] = lines[number].replace(b"0.8", b"0.9", 1)
    journal.write_bytes(b"".join(lines))
    capsys.readouterr()
    assert run(["fsck", "--no-mlflow", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["what"] == f"damaged: line {number + 1}: its checksum is of another line"


def test_a_torn_last_line_is_told_when_it_is_read(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal.write_bytes(journal.read_bytes()[:-20])
    assert run(COMMANDS["status"].split()) == 0
    assert "the last line is half written, and what it held is not counted" in capsys.readouterr().err


def test_a_journal_that_becomes_shorter_while_it_is_used_is_said(journal: Path, content: bytes) -> None:
    study = optuna.load_study(study_name="wide", storage=open_storage(str(journal), journal.parent))
    journal.write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="has become shorter"):
        study.get_trials()


def test_a_damaged_study_hides_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = open_storage(None, folder / "runs")
    Told(storage=storage, study="good").trained(0.8)
    bad = Told(storage=storage, study="bad")
    bad.trained(0.8)
    bad.study.set_user_attr("setting", {"space": 3})
    assert run(["sweep-status"]) == 1
    captured = capsys.readouterr()
    assert "good" in captured.out
    assert "study 'bad': damaged: its setting" in captured.err
    assert "its setting" in complaint(capsys, "sweep-best bad")


# Torn tails


@pytest.mark.parametrize("missing", [1, 2, 20, 60])
def test_a_torn_tail_is_cut_off_before_anything_is_written_and_kept_aside(
    missing: int, journal: Path, content: bytes
) -> None:
    torn, said = content[:-missing], list[str]()
    journal.write_bytes(torn)
    study = optuna.load_study(study_name="wide", storage=open_storage(None, journal.parent, said.append))
    assert journal.read_bytes() == torn, "reading repairs nothing"
    trial = study.ask()
    lines = journal.read_bytes().splitlines(keepends=True)
    assert all(json.loads(line) for line in lines)
    whole = content[: content[:-1].rindex(b"\n") + 1]
    assert b"".join(lines).startswith(whole)
    (aside,) = journal.parent.glob("studies.journal.torn-*")
    assert aside.read_bytes() == torn[len(whole) :]
    assert len(said) == 1
    assert aside.name in said[0]
    again = optuna.load_study(study_name="wide", storage=open_storage(None, journal.parent))
    assert again.trials[trial.number].state == TrialState.RUNNING


def test_a_full_disk_leaves_no_half_line(journal: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.load_study(study_name="wide", storage=open_storage(None, journal.parent))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_file.os, "fsync", full)
    with pytest.raises(TrackingError, match="No space left on device"):
        study.ask()
    assert journal.read_bytes() == content
    assert not journal.with_name("studies.journal.lock").is_symlink()


# Locks


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "STALE", 0.3)
    monkeypatch.setattr(journal_file, "PATIENT", 0.1)


HOLD = """
import sys, time
from pathlib import Path
from cifar_lab.search.journal_file import SymlinkLock
SymlinkLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("hasty")
def test_a_lock_that_a_killed_process_left_is_given_up_with_one_line(journal: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(journal)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    said = list[str]()
    study = optuna.load_study(study_name="wide", storage=open_storage(None, journal.parent, said.append))
    study.ask()
    assert [("waiting" in line, "removed" in line) for line in said] == [(True, False), (False, True)]
    assert not list(journal.parent.glob("studies.journal.lock*"))


@pytest.mark.usefixtures("hasty")
def test_a_lock_whose_target_is_gone_is_given_up(journal: Path) -> None:
    journal.with_name("studies.journal.lock").symlink_to("/old/place/runs/studies.journal")
    optuna.load_study(study_name="wide", storage=open_storage(None, journal.parent)).ask()
    assert not journal.with_name("studies.journal.lock").is_symlink()


@pytest.mark.usefixtures("hasty")
def test_a_lock_that_changes_hands_is_waited_for(journal: Path) -> None:
    said, link = list[str](), journal.with_name("studies.journal.lock")
    lock = SymlinkLock(journal, said.append)
    link.symlink_to(journal)
    ends, before = time.monotonic() + 1.0, lock._mark()
    child = subprocess.Popen(
        [sys.executable, "-c", "import os, sys, time\n"
         "for _ in range(8):\n    time.sleep(0.15); os.symlink('x', sys.argv[2]); os.replace(*sys.argv[2:0:-1])\n"
         "os.unlink(sys.argv[1])", str(link), f"{link}.next"]  # never free in between
    )  # fmt: skip
    while lock._mark() == before and time.monotonic() < ends + 60:
        time.sleep(0.01)
    with lock:
        assert child.wait() == 0
    assert not any("removed" in line for line in said)


def test_a_lock_that_was_taken_for_left_behind_is_not_taken_back(journal: Path) -> None:
    first, second = SymlinkLock(journal), SymlinkLock(journal)
    first.acquire()
    first._file.unlink()
    second.acquire()
    first.release()
    assert second._file.is_symlink(), "another's lock is left alone"
    second.release()


def test_a_study_is_read_beside_a_lock_and_in_a_folder_that_cannot_be_written(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.with_name("studies.journal.lock").symlink_to("nowhere")
    before = {path: path.stat(follow_symlinks=False).st_mtime_ns for path in journal.parent.iterdir()}
    for line in ("sweep-status", "sweep-best wide", "sweep-importance wide"):
        assert run(line.split()) == 0
    assert {path: path.stat(follow_symlinks=False).st_mtime_ns for path in journal.parent.iterdir()} == before


# Names and databases


@pytest.mark.parametrize("name", ["a/b", "../../up", "it's", "<script>", "", "a\nb"])
def test_a_name_that_cannot_be_one_is_refused_before_anything_is_made(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", "--study", name, "--data", "nowhere.zip", "--offline", "-y"]) == 2
    assert "--study takes" in capsys.readouterr().err
    assert not any(folder.iterdir())


@pytest.mark.parametrize("name", ["a/b", "it's", "<script>", "a\x1b[2Jb"])
def test_a_study_of_an_earlier_version_with_such_a_name_is_read(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Told(storage=open_storage(None, folder / "runs"), study=name).trained(0.8)
    assert run(["sweep-best", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == name
    assert run(["sweep-status"]) == 0
    assert run(["sweep-best", name]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert run(["sweep-report", name, "-o", "page.html"]) == 0
    assert "<script>" not in (folder / "page.html").read_text().split("</style>")[-1] or name != "<script>"


def test_a_damaged_database_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "sqlite:///studies.db"
    Told(storage=open_storage(url, folder)).trained(0.8)
    content = bytearray((folder / "studies.db").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (folder / "studies.db").write_bytes(content)
    for line in (
        f"sweep-status --storage {url}",
        f"sweep-best wide --storage {url}",
        f"sweep-report wide --storage {url}",
    ):
        assert "--storage sqlite:///studies.db: " in complaint(capsys, line)

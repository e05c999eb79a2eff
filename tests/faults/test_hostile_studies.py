"""Zips in place of a runs folder, made to do harm: one line and exit code 2, nothing outside the cache, no bomb."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from cifar_lab.cli import run
from cifar_lab.errors import DamageError, TrackingError
from cifar_lab.store import checksum, packed_study

COUNT = int(os.environ.get("CIFAR_LAB_FAULTS", "25"))
CELL = "0" * 64
RESULT = f"runs/{CELL}/result.json"
NOTE = "runs/invocations/20261122T210000.123-se_ratio.json"
GOOD = json.dumps(
    checksum.seal({"fingerprint": CELL, "status": "finished", "epoch": 1, "step": 0, "time": 1, "metrics": {}})
)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a folder to stand in beside which nothing may appear."""
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "deep" / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def made(path: Path, *members: tuple[str | zipfile.ZipInfo, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name, content in ((RESULT, GOOD), *members):
            archive.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    """Return the one line with which a zip is refused, after checking that it left nothing behind."""
    before = {each: each.read_bytes() for each in path.parent.rglob("*") if each.is_file()}
    with pytest.raises(TrackingError) as caught:
        packed_study.unpack(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert {each: each.read_bytes() for each in path.parent.rglob("*") if each.is_file()} == before
    outside = path.parent.parent
    assert [each.name for each in outside.iterdir() if each.name not in {"here", "deep"}] == []
    assert not [each for each in (outside / "deep").rglob("*") if each.is_file()]
    return str(caught.value)


def info(name: str, mode: int = 0, **changed: int) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.external_attr = mode << 16
    for field, value in changed.items():
        setattr(found, field, value)
    return found


def test_the_zip_that_the_others_are_made_of_is_read(alone: Path) -> None:
    path = made(alone / "a.zip", ("runs/", b""), (f"runs/{CELL}/", b""), ("README.md", "read me"), (NOTE, "{}"))
    folder = packed_study.unpack(path)
    assert sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()) == [
        f"{CELL}/result.json", NOTE.removeprefix("runs/"),
    ]  # fmt: skip
    assert (folder / CELL / "result.json").read_text() == GOOD


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "runs/../../evil", f"runs/{CELL}/../../../evil", "/evil", "//evil", "/tmp/evil", "C:/evil",
        "C:\\evil", "..\\evil", f"runs\\{CELL}\\result.json", f"runs/{CELL}\\cell.json", "\\\\host\\share\\evil",
        "runs/CON",
        f"runs/{CELL}/cell.json:stream", f"runs/{CELL}/cell.json ", f"runs/{CELL}/cell.json.", f"runs/{CELL}/CELL.JSON",
        f"runs/{'A' * 64}/cell.json", f"runs/{'0' * 63}/cell.json", f"runs/{CELL}/deeper/cell.json", f"./{RESULT}",
        f"runs/{CELL}/owner.json", f"runs/{CELL}/checkpoint.pt", f"runs/{CELL}/lock",
        f"runs/{CELL}/.result.json.1.partial",
        "runs/invocations/notes.json", "runs/invocations/../evil.json", "runs/invocations/20261122T210000.123-a/b.json",
        "study/wide.log", "setup.py", "tables/../evil.md", "tables/a\tb.md", "runs/evil/", "", " ", f"{RESULT}\nmore",
        f"runs/{CELL}/cell.json\0.txt",
    ],
)  # fmt: skip
def test_a_name_that_is_no_record_is_refused(alone: Path, name: str) -> None:
    told = info("x")
    told.filename = name
    path = made(alone / "a.zip", (told, b"evil" if not name.endswith("/") else b""))
    assert "is no part of a packed study" in refusal(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_a_link_or_device_is_refused(alone: Path, kind: int) -> None:
    path = made(alone / "a.zip", (info(f"runs/{CELL}/cell.json", kind | 0o777), "/etc/passwd"))
    assert "is a link or a device, not a file" in refusal(path)


def test_a_name_twice_is_refused(alone: Path) -> None:
    assert "is there twice" in refusal(made(alone / "a.zip", (RESULT, "other")))


def test_names_that_differ_in_case_alone_are_refused(alone: Path) -> None:
    path = made(alone / "a.zip", (NOTE, "{}"), (NOTE.replace("se_ratio", "SE_ratio"), "{}"))
    assert "is there twice" in refusal(path)


def test_other_compressions_are_refused(alone: Path) -> None:
    path = made(alone / "a.zip", (info(f"runs/{CELL}/cell.json", compress_type=zipfile.ZIP_LZMA), "{}"))
    assert "is compressed in another way" in refusal(path)


def test_an_encrypted_member_is_refused(alone: Path) -> None:
    content = bytearray(made(alone / "a.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (alone / "a.zip").write_bytes(content)
    assert "is encrypted" in refusal(alone / "a.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_study, "FREE", 1 << 20)
    path = made(alone / "a.zip", (f"runs/{CELL}/journal.jsonl", bytes(20 << 20)))
    assert path.stat().st_size < 100_000
    assert "bytes unpacked" in refusal(path)


def test_a_member_larger_than_its_kind_is_refused(alone: Path) -> None:
    path = made(alone / "a.zip", (f"runs/{CELL}/cell.json", bytes((1 << 26) + 1)))
    assert "has 67,108,865 bytes, 67,108,864 at most" in refusal(path)


def test_a_member_that_is_longer_than_it_claims_is_refused(alone: Path) -> None:
    path = made(alone / "a.zip", (f"runs/{CELL}/journal.jsonl", b" " * 100_000))
    content = path.read_bytes()
    assert content.count(struct.pack("<I", 100_000)) == 2
    path.write_bytes(content.replace(struct.pack("<I", 100_000), struct.pack("<I", 10)))
    assert "journal.jsonl: " in refusal(path)


def test_too_many_members_are_refused(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_study, "MOST", 100)
    path = made(alone / "a.zip", *((f"runs/{i:064x}/cell.json", "{}") for i in range(1, 101)))
    assert "not read: 101 members, 100 at most" in refusal(path)


def test_a_directory_too_large_for_memory_is_not_parsed(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_study, "DIRECTORY", 100)

    def parse(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(zipfile, "ZipFile", zipfile.ZipFile)
    path = made(alone / "a.zip", (NOTE, "{}"))
    monkeypatch.setattr(zipfile, "ZipFile", parse)
    assert "its directory has" in refusal(path)
    end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 9, 9, 1 << 40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(b"PK\x03\x04" + end + locator + last)
    assert "its directory has 1,099,511,627,776 bytes" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"notes", b"PK", b"PK\x05\x06", b"PK\x05\x06" + bytes(18), b"\x1f\x8b" + bytes(100), bytes(100_000)],
)
def test_a_file_that_is_no_zip_is_one_line(alone: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (alone / "notes.txt").write_bytes(content)
    for line in ("compare se_ratio", "verify se_ratio", "report se_ratio", "status", "failures", "diff 1 2", "tail 1"):
        assert run([*line.split(), "--runs", "notes.txt"]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("cifar-lab: runs notes.txt: ")
        assert told.err.count("\n") == 1


def test_a_zip_of_something_else_is_said_to_be_none(alone: Path) -> None:
    with zipfile.ZipFile(alone / "a.zip", "w") as archive:
        archive.writestr("README.md", "nothing")
    assert "no packed study: it holds no record and no note" in refusal(alone / "a.zip")


def test_a_changed_digit_is_named_by_the_metadata(alone: Path) -> None:
    def crate(digest: str) -> str:
        return json.dumps({"@graph": [{"@id": "./"}, {"@id": RESULT, "sha256": digest}]})

    true = hashlib.sha256(GOOD.encode()).hexdigest()
    packed_study.unpack(made(alone / "good.zip", (packed_study.METADATA, crate(true))))
    with pytest.raises(DamageError, match=rf"damaged: {RESULT}: not as packed: its SHA-256 is not that in ro-crate"):
        packed_study.unpack(made(alone / "bad.zip", (packed_study.METADATA, crate("0" * 64))))


def test_a_record_that_was_taken_out_is_named_by_the_metadata(alone: Path) -> None:
    crate = json.dumps({"@graph": [{"@id": f"runs/{CELL}/cell.json", "sha256": "0" * 64}]})
    path = made(alone / "a.zip", (packed_study.METADATA, crate))
    assert f"damaged: runs/{CELL}/cell.json: not there, although ro-crate-metadata.json names it" in refusal(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"@graph": 3}', '{"@graph": [3]}', "[" * 100_000])
def test_metadata_that_cannot_be_read_are_one_line(alone: Path, text: str) -> None:
    assert f"damaged: {packed_study.METADATA}: cannot be read" in refusal(
        made(alone / "a.zip", (packed_study.METADATA, text))
    )


def test_a_flipped_bit_is_named_and_nothing_of_it_is_kept(alone: Path) -> None:
    path, noise = alone / "a.zip", random.Random(0).randbytes(10_000)
    made(path, (f"runs/{CELL}/predictions.npz", noise))
    content = bytearray(path.read_bytes())
    content[content.index(noise[5000:5010])] ^= 1
    path.write_bytes(content)
    assert f"damaged: runs/{CELL}/predictions.npz: Bad CRC-32" in refusal(path)


def test_any_damage_is_one_line_or_harmless(alone: Path) -> None:
    """Flip bits, cut and swap anywhere in the file: it is refused, or what is read is what went in."""
    path, chance = alone / "a.zip", random.Random(1)
    whole = made(path, (NOTE, "{}"), (f"runs/{CELL}/confusion.csv", "1,2\n" * 50)).read_bytes()
    kept = {each.name: each.read_bytes() for each in packed_study.unpack(path).rglob("*") if each.is_file()}
    for _ in range(COUNT * 8):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        path.write_bytes(content)
        with suppress(TrackingError):
            folder = packed_study.unpack(path)
            found = {each.name: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
            assert set(found.values()) <= set(kept.values())


def test_a_copy_in_the_cache_that_is_not_whole_is_made_again(alone: Path) -> None:
    path = made(alone / "a.zip", (NOTE, "{}"))
    folder = packed_study.unpack(path)
    assert not (folder / CELL / "result.json").stat().st_mode & 0o222
    changes: list[Callable[[Path], object]] = [
        Path.unlink,
        lambda file: (file.unlink(), file.write_text("shorter")),
        lambda file: (file.unlink(), file.symlink_to("/etc/passwd")),
        lambda file: (file.parent / "weights.safetensors").write_bytes(b"more"),
    ]
    for change in changes:
        change(folder / CELL / "result.json")
        assert packed_study.unpack(path) == folder
        assert (folder / CELL / "result.json").read_text() == GOOD
        assert [each.name for each in (folder / CELL).iterdir()] == ["result.json"]
    assert [each.name for each in folder.parent.parent.iterdir()] == [folder.parent.name]


def test_a_cache_that_cannot_be_written_is_one_line(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / "file").write_text("")
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(alone / "file"))
    path = made(alone / "a.zip")
    with pytest.raises(TrackingError, match=r"the cache folder .* cannot be written: .*; set CIFAR_LAB_CACHE"):
        packed_study.unpack(path)


def test_a_full_disk_is_named_with_the_cache_and_leaves_nothing(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(alone / "a.zip")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(packed_study, "_extract", full)
        assert run(["status", "--runs", "a.zip"]) == 1
    told = capsys.readouterr().err
    assert str(alone.parent / "deep" / "cache") in told
    assert "cannot be read" not in told
    assert not list((alone.parent / "deep" / "cache" / "studies").iterdir())
    assert run(["status", "--runs", "a.zip"]) == 0


def test_processes_that_unpack_at_once_share_one_copy(alone: Path) -> None:
    path = made(alone / "a.zip", *((f"runs/{i:064x}/cell.json", "{}") for i in range(1, 40)))
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(packed_study.unpack, [path] * 8))
    (folder,) = folders
    assert len(list(folder.iterdir())) == 40
    assert [each.name for each in folder.parent.parent.iterdir()] == [folder.parent.name]


def test_a_zip_with_something_before_it_is_read_like_any(alone: Path) -> None:
    path, buffer = alone / "a.zip", io.BytesIO()
    buffer.write(b"#!/bin/sh\n")
    buffer.write(made(path).read_bytes())
    path.write_bytes(buffer.getvalue())
    assert (packed_study.unpack(path) / CELL / "result.json").read_text() == GOOD


@pytest.mark.parametrize("line", ["sweep-status", "sweep-best wide", "sweep-importance wide", "sweep-report wide"])
def test_a_packed_study_without_a_search_has_none_to_show(
    alone: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made(alone / "study.zip")
    assert run([*line.split(), "--runs", "study.zip"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("cifar-lab: no study: ")


@pytest.mark.parametrize(
    "line",
    [
        "run-ablation se_ratio", "train", "sync", "clean -y", "fsck --repair", "sweep", "sweep-confirm wide",
        "ablate-best wide", "plan se_ratio", "doctor",
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["option", "environment"])
def test_commands_that_write_refuse_a_packed_study(
    alone: Path, line: str, by: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(alone / "study.zip")
    before = path.read_bytes()
    if by == "environment":
        monkeypatch.setenv("CIFAR_LAB_RUNS", "study.zip")
    assert run([*line.split(), *(["--runs", "study.zip"] if by == "option" else [])]) == 2
    told = capsys.readouterr()
    assert told.err == (
        "cifar-lab: --runs study.zip: a file; this command needs a folder of records (a packed study is only read)\n"
    )
    assert path.read_bytes() == before
    assert [each.name for each in alone.iterdir()] == ["study.zip"]

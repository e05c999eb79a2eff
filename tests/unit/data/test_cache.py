"""Decoded arrays are kept once, mapped, and made again when anything about them is not as it was written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platformdirs import user_cache_dir

from cifar_lab.data import cache
from cifar_lab.data.dataset import Dataset
from cifar_lab.errors import DataError

ASK = """
import sys, time
from pathlib import Path
import numpy as np
from cifar_lab.data import cache
from cifar_lab.data.dataset import Dataset

def make():
    with Path(sys.argv[1]).open("a") as log:
        log.write("made\\n")
    time.sleep(0.5)
    images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    return Dataset(name="n", kind="path", classes=tuple("abcd"), train_images=images, train_labels=labels,
                   test_images=images, test_labels=labels, hash="0" * 64)

{before}
print(cache.open_or_make("key", make).train_labels.tolist())
"""


def dataset(fill: int = 7) -> Dataset:
    return Dataset(
        name="some images",
        kind="path",
        classes=("cat", "dog"),
        train_images=np.full((4, 32, 32, 3), fill, np.uint8),
        train_labels=np.array([0, 1, 0, 1]),
        test_images=np.full((2, 32, 32, 3), fill, np.uint8),
        test_labels=np.array([0, 1]),
        hash="0" * 64,
    )


def ask(log: Path, before: str = "") -> subprocess.Popen[str]:
    """A process of its own that asks the cache for `key`; `before` is Python that it runs just before."""
    command = [sys.executable, "-c", ASK.format(before=before), str(log)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock")


def test_an_entry_is_made_once_and_then_mapped(cache_root: Path) -> None:
    made = cache.open_or_make("key", dataset)
    kept = cache.open_or_make("key", lambda: pytest.fail("made again"))

    assert (kept.name, kept.kind, kept.classes, kept.hash) == (
        "some images",
        "path",
        ("cat", "dog"),
        "0" * 64,
    )
    for name in cache.ARRAYS:
        for data in (made, kept):
            assert isinstance(getattr(data, name), np.memmap)
            assert not getattr(data, name).flags.writeable
            np.testing.assert_array_equal(getattr(data, name), getattr(dataset(), name))


def test_an_entry_is_four_arrays_what_they_are_and_that_they_were_checked(cache_root: Path) -> None:
    cache.open_or_make("key", dataset)

    assert entries(cache_root) == ["key"]
    assert entries(cache_root / "key") == sorted(
        ["checked.json", "meta.json", *(f"{name}.npy" for name in cache.ARRAYS)]
    )
    assert sorted(json.loads((cache_root / "key" / "meta.json").read_text())) == [
        "check",
        "classes",
        "files",
        "hash",
        "kind",
        "name",
    ]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def array(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: void(path.write_text(content))


def void(_: object) -> None: ...


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "images gone": ("train_images.npy", Path.unlink),
    "labels gone": ("test_labels.npy", Path.unlink),
    "meta gone": ("meta.json", Path.unlink),
    "images cut": ("train_images.npy", cut),
    "labels cut": ("train_labels.npy", cut),
    "images emptied": ("test_images.npy", text("")),
    "images not an array": ("test_images.npy", text("hello")),
    "images too few": ("train_images.npy", array(np.zeros((3, 32, 32, 3), np.uint8))),
    "images of another size": ("train_images.npy", array(np.zeros((4, 31, 32, 3), np.uint8))),
    "images of another type": ("train_images.npy", array(np.zeros((4, 32, 32, 3), np.float32))),
    "labels of another type": ("train_labels.npy", array(np.zeros(4, np.int32))),
    "labels of another shape": ("train_labels.npy", array(np.zeros((4, 1), np.int64))),
    "labels without a class": ("train_labels.npy", array(np.array([0, 1, 2, 0]))),
    "labels pickled": ("train_labels.npy", array(np.array([{}] * 4))),
    "meta cut": ("meta.json", cut),
    "meta emptied": ("meta.json", text("")),
    "meta of another kind": ("meta.json", text('["cat", "dog"]')),
    "meta without a hash": ("meta.json", text('{"name": "n", "kind": "path", "classes": ["cat", "dog"]}')),
    "meta not text": ("meta.json", lambda path: void(path.write_bytes(b"\xff\xfe\x00"))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_again(cache_root: Path, damage: str) -> None:
    cache.open_or_make("key", dataset)
    name, spoil = DAMAGE[damage]
    spoil(cache_root / "key" / name)

    assert cache.open_or_make("key", lambda: dataset(fill=8)).train_images[0, 0, 0, 0] == 8
    assert cache.open_or_make("key", lambda: pytest.fail("made again")).train_images[0, 0, 0, 0] == 8
    assert entries(cache_root) == ["key"]


def test_what_cannot_be_made_leaves_nothing(cache_root: Path) -> None:
    def fail() -> Dataset:
        raise DataError("no such images")

    with pytest.raises(DataError, match="no such images"):
        cache.open_or_make("key", fail)
    assert entries(cache_root) == []
    assert cache.open_or_make("key", dataset).name == "some images"


def test_of_processes_that_ask_at_once_one_makes_and_all_end_well(cache_root: Path, tmp_path: Path) -> None:
    asking = [ask(tmp_path / "log") for _ in range(3)]

    assert [process.communicate()[0] for process in asking] == ["[0, 1, 2, 3]\n"] * 3
    assert (tmp_path / "log").read_text() == "made\n"


def test_what_a_killed_process_left_is_never_taken_as_finished(cache_root: Path, tmp_path: Path) -> None:
    die = "import os; cache.os = type('Dies', (), {'environ': os.environ, 'fsync': lambda _: os._exit(9)})"
    assert ask(tmp_path / "log", before=die).wait() == 9
    assert entries(cache_root) == [".key.partial"]

    assert ask(tmp_path / "log").communicate()[0] == "[0, 1, 2, 3]\n"
    assert entries(cache_root) == ["key"]


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_decoded(cache_root: Path) -> None:
    cache_root.write_text("a file, where the cache should be")

    with pytest.raises(DataError) as caught:
        cache.open_or_make("key", lambda: pytest.fail("decoded in vain"))
    assert "\n" not in str(caught.value)
    assert str(cache_root) in str(caught.value)
    assert "set CIFAR_LAB_CACHE" in str(caught.value)


def test_a_full_disk_is_told_and_leaves_nothing(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match=r"cannot be written: No space left on device; set CIFAR_LAB_CACHE"):
        cache.open_or_make("key", dataset)
    assert entries(cache_root) == []


def test_a_finished_entry_needs_no_writing(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.open_or_make("key", dataset)
    monkeypatch.setattr(cache, "FileLock", lambda _: pytest.fail("locked"))

    assert cache.open_or_make("key", dataset).name == "some images"


def test_the_folder_is_the_variables_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path))
    assert cache.root() == tmp_path
    monkeypatch.delenv("CIFAR_LAB_CACHE")
    assert cache.root() == Path(user_cache_dir("cifar-lab"))


def flip(path: Path, at: int = -1) -> None:
    """Change one bit, of the last byte or another; size and shape stay as they are."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in cache.ARRAYS), "meta.json"])
@pytest.mark.parametrize("at", [-1, -40, 200])
def test_one_flipped_bit_is_noticed_and_the_entry_made_again(cache_root: Path, name: str, at: int) -> None:
    cache.open_or_make("key", dataset)
    path = cache_root / "key" / name
    flip(path, at if abs(at) < path.stat().st_size else -1)
    again = cache.open_or_make("key", lambda: dataset(fill=8))

    assert (again.train_images == 8).all()
    assert (again.name, again.hash) == ("some images", "0" * 64)


def test_a_changed_name_or_hash_in_the_description_is_noticed(cache_root: Path) -> None:
    cache.open_or_make("key", dataset)
    meta = cache_root / "key" / "meta.json"
    meta.write_text(meta.read_text().replace("some images", "same images").replace('"hash": "0', '"hash": "1'))

    assert cache.kept("key") is None


def test_bytes_are_hashed_once_a_state_and_not_at_every_use(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.open_or_make("key", dataset)
    hashed: list[str] = []
    right = cache._sha256
    monkeypatch.setattr(cache, "_sha256", lambda path: hashed.append(path.name) or right(path))
    for _ in range(2):
        assert cache.kept("key") is not None
    assert hashed == []

    os.utime(cache_root / "key" / "train_images.npy", ns=(1, 1))  # copied by a tool, say; the bytes are the same
    for _ in range(2):
        assert cache.kept("key") is not None
    assert sorted(hashed) == sorted(f"{name}.npy" for name in cache.ARRAYS)


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, "null", "\0"])
def test_a_damaged_note_of_the_check_is_made_again(cache_root: Path, content: str) -> None:
    cache.open_or_make("key", dataset)
    (cache_root / "key" / "checked.json").write_text(content)

    assert cache.open_or_make("key", lambda: pytest.fail("made again")).name == "some images"
    assert json.loads((cache_root / "key" / "checked.json").read_text())


def test_an_entry_of_an_earlier_version_is_made_again(cache_root: Path) -> None:
    cache.open_or_make("key", dataset)
    meta = cache_root / "key" / "meta.json"
    fields = json.loads(meta.read_text())
    meta.write_text(json.dumps({name: fields[name] for name in ("name", "kind", "classes", "hash")}))

    assert cache.open_or_make("key", lambda: dataset(fill=8)).train_images[0, 0, 0, 0] == 8


def test_a_cache_that_may_only_be_read_is_checked_and_used(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.open_or_make("key", dataset)
    (cache_root / "key" / "checked.json").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cache.tempfile, "mkstemp", refuse)
    assert cache.open_or_make("key", lambda: pytest.fail("made again")).name == "some images"

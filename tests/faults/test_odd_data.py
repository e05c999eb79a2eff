"""Labels, class names and cache entries that no writer of this project makes: one line, or made again; never a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from made import cifar_files as made
from pyarrow import parquet

from cifar_lab.data import absolute, load
from cifar_lab.errors import DataError


@pytest.fixture(autouse=True)
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def with_classes(path: Path, classes: Any) -> str:
    a = made.small().arrays
    np.savez(path, x_train=a.train_images, y_train=a.train_labels, x_test=a.test_images, y_test=a.test_labels,
             classes=classes)  # fmt: skip
    return str(path)


def test_class_names_in_bytes_are_text(tmp_path: Path) -> None:
    names = tuple(f"c{number}" for number in range(10))
    assert load(with_classes(tmp_path / "a.npz", np.array([name.encode() for name in names]))).classes == names


@pytest.mark.parametrize("classes", [np.array([b"\xff"] * 10), np.full(10, 0x110000, np.uint32).view("U1")])
def test_class_names_that_are_no_text_are_one_line(classes: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'classes' holds class names that are no text; expected Unicode"):
        load(with_classes(tmp_path / "a.npz", classes))


def test_a_label_of_64_bits_is_one_line(tmp_path: Path) -> None:
    folder = made.parquet_folder(made.small(), tmp_path / "hub")
    file = next(folder.glob("train-*"))
    table = parquet.read_table(file)
    at = table.schema.get_field_index("label")
    parquet.write_table(table.set_column(at, "label", pa.array([2**64 - 1] * len(table), pa.uint64())), file)

    with pytest.raises(DataError, match="has labels from 18446744073709551615 to 18446744073709551615"):
        load(str(folder))


@pytest.mark.parametrize("call", [load, absolute])
def test_an_empty_path_is_not_the_current_folder(call: Callable[[str], object]) -> None:
    with pytest.raises(DataError, match="data '' is empty"):
        call("")


ODD: dict[str, Callable[[Path, Path], object]] = {
    "a file": lambda entry, _: (entry.rename(entry.with_name("old")), entry.write_text("")),
    "a dangling link": lambda entry, _: (entry.rename(entry.with_name("old")), entry.symlink_to("nowhere")),
    "a link to a folder": lambda entry, other: (entry.rename(entry.with_name("old")), entry.symlink_to(other)),
    "a partial that is a file": lambda entry, _: (
        (entry / "meta.json").unlink(),
        entry.with_name(f".{entry.name}.partial").write_text(""),
    ),
    "a pipe for meta.json": lambda entry, _: ((entry / "meta.json").unlink(), os.mkfifo(entry / "meta.json")),
    "a pipe for checked.json": lambda entry, _: ((entry / "checked.json").unlink(), os.mkfifo(entry / "checked.json")),
}


@pytest.mark.parametrize("odd", ODD)
def test_whatever_stands_for_an_entry_is_made_again(odd: str, tmp_path: Path, entries: Path) -> None:
    source = str(made.npz(made.small(), tmp_path / "a.npz") or tmp_path / "a.npz")
    first = load(source)
    entry = next(path for path in entries.iterdir() if path.is_dir())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    ODD[odd](entry, tmp_path / "other")

    assert load(source).hash == first.hash
    assert entry.is_dir()
    assert not entry.is_symlink()
    assert (tmp_path / "other" / "mine.txt").read_text() == "mine"


def test_a_null_device_that_refuses_is_no_traceback() -> None:
    code = (
        "import os; os.devnull = '/nowhere/null'\n"
        "from cifar_lab.cli import std_streams\nstd_streams.prepare(); print(1)"
    )
    for closed in ("", " <&- >&-"):
        line = f'exec "$0" -c "$1"{closed}'
        done = subprocess.run(["bash", "-c", line, sys.executable, code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

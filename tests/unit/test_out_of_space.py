"""A full disk is told from other errors, whichever library writes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cifar_lab.out_of_space import is_out_of_space, where
from cifar_lab.store import atomic_file

FULL = OSError(errno.ENOSPC, "No space left on device")


def chained(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (chained(RuntimeError("unexpected pos 704 vs 598"), FULL), True),
        (chained(ValueError("wrapped"), FULL), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_a_full_disk_is_known_by_its_number_or_by_the_error_behind(error: BaseException, is_full: bool) -> None:
    assert is_out_of_space(error) == is_full


def test_a_writer_that_hides_its_reason_is_believed_only_where_the_disk_is_full(tmp_path: Path) -> None:
    assert not is_out_of_space(RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos"), tmp_path)


def test_the_file_is_named(tmp_path: Path) -> None:
    assert where(OSError(errno.ENOSPC, "No space left on device", "/a/b")) == "no space left on device: /a/b"
    assert where(FULL, tmp_path) == f"no space left on device: {tmp_path}"
    assert where(FULL) == "no space left on device"


@pytest.mark.parametrize("raises", [FULL, chained(RuntimeError("unexpected pos"), FULL)], ids=["plain", "torch"])
def test_a_write_that_finds_no_room_names_its_file_and_leaves_nothing(raises: BaseException, tmp_path: Path) -> None:
    def fill(_file: object) -> None:
        raise raises

    with pytest.raises(OSError, match="No space left") as caught:
        atomic_file.write_atomically(tmp_path / "weights", fill)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "weights"))
    assert list(tmp_path.iterdir()) == []

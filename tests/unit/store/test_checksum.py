"""A sealed JSON object is read as it was written, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cifar_lab.errors import DamageError
from cifar_lab.store import checksum

TREE = {"status": "finished", "step": None, "metrics": {"test/acc": 0.9123, "seconds": 1e-9}, "names": ["a", "ü"]}


def test_what_is_sealed_is_read_without_its_checksum(tmp_path: Path) -> None:
    checksum.write_sealed(tmp_path / "file.json", TREE)
    assert checksum.read_sealed(tmp_path / "file.json") == TREE
    assert len(json.loads((tmp_path / "file.json").read_text())["sha256"]) == 64
    assert checksum.read_sealed(tmp_path / "nowhere.json") is None


def test_neither_layout_nor_order_of_fields_matters(tmp_path: Path) -> None:
    sealed = checksum.seal(TREE)
    (tmp_path / "file.json").write_text(json.dumps(dict(reversed(sealed.items())), indent=7))
    assert checksum.read_sealed(tmp_path / "file.json") == TREE


def test_what_an_earlier_version_wrote_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps(TREE))
    assert checksum.read_sealed(tmp_path / "file.json") == TREE
    assert checksum.lacks_checksum(tmp_path / "file.json")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("0.9123", "0.9173", "its checksum does not match"),
        ("null", "3", "its checksum does not match"),
        ('"seconds"', '"secands"', "its checksum does not match"),
        ('"sha256": "', '"sha256": "f', "its checksum does not match"),
        ("}", "]", "not JSON"),
    ],
)
def test_a_change_is_noticed(tmp_path: Path, old: str, new: str, rule: str) -> None:
    path = tmp_path / "file.json"
    checksum.write_sealed(path, TREE)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DamageError, match=rule) as refusal:
        checksum.read_sealed(path)
    assert str(refusal.value).startswith(f"{path}: damaged: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b"", "empty"), (bytes(100), "not JSON"), (b"\xff\xfe", "not JSON"), (b"[" * 100_000, "too deep to be read")],
)
def test_what_is_no_json_is_one_line(tmp_path: Path, content: bytes, rule: str) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(DamageError, match=rule) as refusal:
        checksum.read_sealed(tmp_path / "file.json")
    assert "\n" not in str(refusal.value)

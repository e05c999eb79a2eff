"""Data made to do harm: it ends in one line, nothing runs, nothing is written outside the cache, nothing hangs.

`CIFAR_LAB_FAULTS=1000` makes as many random archives and images as the table of faults counts; the default is small.
"""

from __future__ import annotations

import bz2
import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import cifar_files as made

from cifar_lab.data import decoding, file_tree, load, unpickle
from cifar_lab.errors import DataError

COUNT = int(os.environ.get("CIFAR_LAB_FAULTS", "25"))
MANY = settings(
    max_examples=COUNT, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own and a folder to stand in, beside which nothing may appear."""
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def outcome(source: Path) -> str:
    """Load `source`; the refusal in one line, or nothing if it is data after all. Any other error is a failure."""
    before = tree(source.parent)
    try:
        load(str(source))
        message = ""
    except DataError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1500
    assert tree(source.parent) == before
    return message


def tree(folder: Path) -> list[str]:
    """Every file below `folder` but those of the cache."""
    beside = [path for path in folder.iterdir() if path.name != "cache"]
    return sorted(str(path) for top in beside for path in (top, *top.rglob("*")))


def refusal(source: Path) -> str:
    message = outcome(source)
    assert message, "it was taken for data"
    return message


# Pickles


class Marks:
    """Pickled, it asks for a file to be made when it is loaded."""

    def __init__(self, path: Path, call: Callable[..., object]) -> None:
        self.call, self.args = call, (f"touch {path}",) if call is os.system else (str(path), "w")

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.args


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("call", [os.system, open, exec], ids=lambda call: str(call.__name__))
def test_a_pickle_that_would_run_something_runs_nothing(alone: Path, name: str, call: Callable[..., object]) -> None:
    folder = made.python_folder(made.small(), alone)
    (folder / name).write_bytes(pickle.dumps(Marks(alone / "marked", call)))

    message = refusal(folder)
    assert name in message
    assert "it asks for" in message
    assert not (alone / "marked").exists()


def test_an_array_of_objects_in_an_npz_runs_nothing(alone: Path) -> None:
    objects = np.array([Marks(alone / "marked", os.system)], dtype=object)
    np.savez(alone / "a.npz", x_train=objects, y_train=objects, x_test=objects, y_test=objects)

    assert "pickled objects" in refusal(alone / "a.npz")
    assert not (alone / "marked").exists()


@pytest.mark.parametrize("name", ["a.zip", "a.npz", "a.tar.gz", "cifar-10-python.tar.gz", "a.parquet", "a.pkl"])
def test_a_pickle_under_any_name_runs_nothing(alone: Path, name: str) -> None:
    (alone / name).write_bytes(pickle.dumps(Marks(alone / "marked", os.system)))

    assert "neither a folder nor a zip" in refusal(alone / name)
    assert not (alone / "marked").exists()


OF_THREE = pickle.dumps(np.zeros(3, np.uint8), protocol=2)
PICKLES: dict[str, bytes] = {
    "memo of 4 billion": b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".",
    "bytes of an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".",
    "frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b".",
    "depth": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "tuples of tuples": b"\x80\x02)" + b"2\x86" * 60 + b".",
    "endless number": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "array of a petabyte": OF_THREE.replace(b"K\x03\x85", b"\x8a\x07" + b"\x7f" * 7 + b"\x85"),
    "builder changed": b"cnumpy\ndtype\n}X\x05\x00\x00\x00buildK\x01sb.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent name": b"\x80\x02Pname\n.",
    "nothing": b"",
    "a stop": b".",
    "a mark": b"(.",
    "a dictionary": b"}.",
    "attribute of an attribute": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "an object of a class": b"\x80\x02cbuiltins\nobject\n)\x81.",
}  # fmt: skip


@pytest.mark.parametrize("case", PICKLES)
def test_a_pickle_made_to_exhaust_memory_ends_in_one_line(alone: Path, case: str) -> None:
    folder = made.python_folder(made.small(), alone)
    (folder / "data_batch_2").write_bytes(PICKLES[case])
    tracemalloc.start()
    try:
        assert "data_batch_2" in refusal(folder)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


@MANY
@given(data=st.data())
def test_a_damaged_batch_is_data_or_one_line(alone: Path, data: st.DataObject) -> None:
    whole = pickle.dumps({"data": made.small().planes["test_batch"], "labels": [*range(10)] * 2}, protocol=2)
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        near_an_end = st.one_of(st.integers(0, 200), st.integers(len(whole) - 200, len(whole) - 1))
        content[data.draw(near_an_end)] = data.draw(st.integers(0, 255))
    unpickled(bytes(content))


@MANY
@given(content=st.binary(max_size=300))
def test_random_bytes_are_no_pickle_of_anything_but_plain_values(content: bytes) -> None:
    unpickled(b"\x80\x02" + content)


def unpickled(content: bytes) -> None:
    try:
        unpickle.unpickle(content)
    except DataError as refused:
        assert len(str(refused).splitlines()) == 1  # noqa: PT017 - either outcome is right


# Archives


NAMES_THAT_LEAD_OUT = ("../evil.png", "train/../../evil.png", "/etc/evil.png", "C:\\evil.png", "..\\evil.png", "a/../b")


@pytest.mark.parametrize("name", NAMES_THAT_LEAD_OUT)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_leads_out_is_refused(alone: Path, name: str, form: str) -> None:
    path = alone / f"a.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo(name))

    assert "leads out of the" in refusal(path)


TYPES = {
    "symbolic link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE,
    "disk": tarfile.BLKTYPE,
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_links_and_devices_in_a_tar_are_refused(alone: Path, kind: str) -> None:
    member = tarfile.TarInfo("train/cat/1.png")
    member.type, member.linkname = TYPES[kind], "/etc/passwd"
    with tarfile.open(alone / "a.tar", "w") as tar:
        tar.addfile(member)

    assert "'train/cat/1.png' is a " in refusal(alone / "a.tar")


def test_a_link_in_a_zip_is_not_followed(alone: Path) -> None:
    (alone / "secret.png").write_bytes(made.png(np.zeros((32, 32, 3), np.uint8)))
    member = zipfile.ZipInfo("train/cat/1.png")
    member.external_attr = 0o120777 << 16
    path = as_zip(alone, {"train/cat/1.png": None})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, str(alone / "secret.png"))

    assert "'train/cat/1.png' is not a whole PNG" in refusal(path)


@pytest.mark.parametrize("second", ["train/cat/0.png", "./train/cat/0.png", "train//cat/0.png", "train\\cat\\0.png"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(alone: Path, second: str) -> None:
    path = as_zip(alone, {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(second, b"x")

    assert "'train/cat/0.png' is in the zip twice" in refusal(path)


def as_zip(folder: Path, other: dict[str, bytes | None]) -> Path:
    """A zip of ten classes as it should be, with other contents for some files."""
    image = made.png(np.zeros((32, 32, 3), np.uint8))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for label in made.CLASSES:
            for name in (f"train/{label}/0.png", f"train/{label}/1.png", f"test/{label}/0.png"):
                content = other.get(name, image)
                if content is not None:
                    archive.writestr(name, content)
    return folder / "a.zip"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_tar_that_unpacks_into_gigabytes_is_refused(
    alone: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(file_tree, "LARGEST_UNPACKED", 10 << 20)
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        for name in ("notes.txt", "cifar-10-batches-py/data_batch_1"):
            member = tarfile.TarInfo(name)
            member.size = 8 << 20
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    (alone / "a.tar.gz").write_bytes(pack(inner.getvalue()))

    assert "unpacks into more than 10,485,760 bytes" in refusal(alone / "a.tar.gz")


def test_a_sparse_file_that_claims_gigabytes_is_refused(alone: Path) -> None:
    member = tarfile.TarInfo("train/cat/0.png")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    member.size = 512
    with tarfile.open(alone / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"1\n1099511627776\n0\n".ljust(512, b"\0")))

    assert "sparse" in refusal(alone / "a.tar")


def test_a_zip_member_that_unpacks_into_gigabytes_is_read_no_further_than_an_image(alone: Path) -> None:
    path = as_zip(alone, {"train/cat/0.png": None})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("train/cat/0.png", "w") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))

    assert "larger than 1,048,576 bytes" in refusal(path)


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


CLAIMS = {
    "a petabyte": npy((10**15,)),
    "more than can be counted": npy((2**62, 2**62)),
    "less than nothing": npy((-1, 32, 32, 3), b"x" * 3072),
    "nothing": npy((0,)),
    "half a header": b"\x93NUMPY\x01\x00\xff\xff{",
    "a header that never closes": b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16,
}


@pytest.mark.parametrize("content", CLAIMS.values(), ids=CLAIMS)
def test_an_array_that_claims_more_than_it_has_is_refused(alone: Path, content: bytes) -> None:
    with zipfile.ZipFile(alone / "a.npz", "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", content)

    assert "x_train" in refusal(alone / "a.npz")


@MANY
@given(data=st.data())
def test_a_damaged_archive_is_data_or_one_line(alone: Path, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["a.zip", "a.npz", "a.tar", "a.tar.gz", "hub", "bin"]))
    source = _damaged(alone, form, data)
    outcome(source)


def _damaged(alone: Path, form: str, data: st.DataObject) -> Path:
    """One of the forms, with some bytes changed, or cut off."""
    small, place = made.small(), alone / "whole"
    if form == "hub":
        target = (place if place.exists() else made.parquet_folder(small, place)) / "test-00000-of-00001.parquet"
    elif form == "bin":
        folder = alone / "cifar-10-batches-bin"
        target = (folder if folder.exists() else made.binary_folder(small, alone)) / "batches.meta.txt"
    elif form == "a.zip":
        target = as_zip(alone, {})
    elif form == "a.npz":
        target = made.npz(small, alone / "a.npz")
    else:
        folder = alone / "cifar-10-batches-py"
        target = made.packed(
            folder if folder.exists() else made.python_folder(small, alone),
            alone / form,
            "w:gz" if "gz" in form else "w",
        )
    whole = alone / f"{form}.whole"
    if not whole.exists():
        whole.write_bytes(target.read_bytes())
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    target.write_bytes(content)
    return target.parent if form in ("hub", "bin") else target


NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


PART = st.one_of(st.sampled_from(["train", "test", "cat", "..", ".", "Thumbs.db"]), NAME)
PATH = st.builds("/".join, st.lists(PART, min_size=1, max_size=5))


@MANY
@given(names=st.lists(PATH, max_size=12))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_of_any_names_is_data_or_one_line(alone: Path, names: list[str]) -> None:
    with zipfile.ZipFile(alone / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name[:200]), b"x")
    assert "data " in refusal(alone / "a.zip")


# Images


@MANY
@given(data=st.data())
def test_a_damaged_image_is_pixels_or_one_line(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    file = io.BytesIO()
    made.Image.fromarray(made.small().arrays.test_images[0]).save(file, kind)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 10))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    judge(bytes(content[: data.draw(st.integers(1, len(content)))]))


@MANY
@given(
    width=st.integers(0, 2**31 - 1),
    depth=st.integers(0, 255),
    colour=st.integers(0, 255),
    content=st.binary(max_size=200),
)
def test_an_image_of_any_header_is_pixels_or_one_line(width: int, depth: int, colour: int, content: bytes) -> None:
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, 32, depth, colour, 0, 0, 0), b"IDAT" + content, b"IEND")
    judge(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    )


def judge(content: bytes) -> None:
    with warnings.catch_warnings(action="ignore"):
        try:
            assert decoding.decode_image("a.png", content).shape == (32, 32, 3)
        except DataError as refused:
            assert len(str(refused).splitlines()) == 1  # noqa: PT017 - either outcome is right

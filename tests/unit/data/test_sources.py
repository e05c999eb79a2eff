"""The same images by every road: archives, batches, parquet, arrays, folders; one content hash for the original."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from made import cifar_files as made

from cifar_lab.data import load, sources
from cifar_lab.errors import DataError

Form = Callable[[made.Small, Path], Path]


def in_zip(folder: Path, path: Path, prefix: str) -> Path:
    with ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.writestr(prefix + file.relative_to(folder).as_posix(), file.read_bytes())
    return path


ORDERED: dict[str, Form] = {
    "python tar.gz": lambda d, at: made.packed(made.python_folder(d, at), at / "cifar-10-python.tar.gz"),
    "python tar": lambda d, at: made.packed(made.python_folder(d, at), at / "cifar-10.tar", "w"),
    "python tar.bz2": lambda d, at: made.packed(made.python_folder(d, at), at / "cifar-10.tar.bz2", "w:bz2"),
    "python folder": lambda d, at: made.python_folder(d, at),
    "python folder, bytes as keys": lambda d, at: made.python_folder(d, at, keys=bytes),
    "python folder, newest pickles": lambda d, at: made.python_folder(d, at, protocol=5),
    "python folder, oldest pickles": lambda d, at: made.python_folder(d, at, protocol=0),
    "torchvision's root": lambda d, at: made.python_folder(d, at).parent,
    "the archive's folder": lambda d, at: (
        shutil.move(made.packed(made.python_folder(d, at / "x"), at / "cifar-10-batches-py.tar.gz"), at / "x") and at
    ),
    "python zip": lambda d, at: in_zip(made.python_folder(d, at), at / "archive.zip", "cifar-10-batches-py/"),
    "binary tar.gz": lambda d, at: made.packed(made.binary_folder(d, at), at / "cifar-10-binary.tar.gz"),
    "binary folder": lambda d, at: made.binary_folder(d, at),
    "parquet folder": lambda d, at: made.parquet_folder(d, at / "plain_text"),
    "parquet in the hub's cache": lambda d, at: made.parquet_folder(d, at / "0b27149" / "plain_text").parent,
    "parquet without class names": lambda d, at: made.parquet_folder(d, at / "plain_text", names=False),
    "npz": lambda d, at: made.npz(d, at / "cifar10.npz"),
    "numbered png": lambda d, at: made.class_folder(d, at / "cifar10"),
    "numbered png tgz": lambda d, at: made.packed(made.class_folder(d, at / "cifar10"), at / "cifar10.tgz"),
}


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> made.Small:
    data = made.small()
    made.as_original(data, monkeypatch)
    return data


@pytest.mark.parametrize("form", ORDERED)
def test_the_original_has_one_hash_by_every_road(data: made.Small, tmp_path: Path, form: str) -> None:
    (tmp_path / "reference").mkdir()
    reference = sources.read_source(made.binary_folder(data, tmp_path / "reference"))
    (tmp_path / "here").mkdir()
    dataset = sources.read_source(ORDERED[form](data, tmp_path / "here"))

    assert (dataset.name, dataset.kind, dataset.classes) == ("CIFAR-10", "cifar10", made.CLASSES)
    assert dataset.hash == reference.hash
    for name, expected in data.arrays._asdict().items():
        np.testing.assert_array_equal(getattr(dataset, name), expected)


@pytest.mark.parametrize("form", ORDERED)
def test_other_images_are_not_taken_for_the_original(data: made.Small, tmp_path: Path, form: str) -> None:
    data.arrays.train_images[7, 3, 5, 1] ^= 1
    data.planes["data_batch_1"][7, 1024 + 3 * 32 + 5] ^= 1
    dataset = sources.read_source(ORDERED[form](data, tmp_path))

    assert dataset.kind == "path"
    assert dataset.name != "CIFAR-10"


def test_torchvision_reads_the_same_from_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    made.python_folder(made.small(), tmp_path)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda _: None)
    theirs = {train: CIFAR10(tmp_path, train=train) for train in (True, False)}
    ours = sources.read_source(tmp_path)

    np.testing.assert_array_equal(ours.train_images, theirs[True].data)
    np.testing.assert_array_equal(ours.test_images, theirs[False].data)
    assert ours.train_labels.tolist() == theirs[True].targets
    assert ours.test_labels.tolist() == theirs[False].targets


def test_a_folder_without_the_order_is_recognised_once_the_original_was_read(
    data: made.Small, tmp_path: Path, cache_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnumbered = made.class_folder(data, tmp_path / "by_class", numbered=False)
    before = sources.read_source(unnumbered)
    monkeypatch.setenv("CIFAR10_ROOT", str(made.python_folder(data, tmp_path)))
    original = load("cifar10")
    after = load(str(unnumbered))

    assert before.kind == "path"
    assert (after.kind, after.name, after.hash) == ("cifar10", "CIFAR-10", original.hash)


def wrapped(folder: Path, *names: str) -> Path:
    """The folder's content below other folders."""
    top = folder.with_name("top")
    place = top.joinpath(*names)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, place)
    (top / "README.md").write_text("about")
    (top / "docs").mkdir()
    (top / "docs" / "a.txt").write_text("about")
    return top


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c")])
def test_up_to_three_folders_may_wrap_the_data(folder: Path, names: tuple[str, ...]) -> None:
    expected = sources.read_source(folder).hash
    top = wrapped(folder, *names)
    with tarfile.open(top.with_suffix(".tar.gz"), "w:gz") as archive:
        archive.add(top, ".")

    assert sources.read_source(top).hash == expected
    assert sources.read_source(in_zip(top, top.with_suffix(".zip"), "./")).hash == expected
    assert sources.read_source(top.with_suffix(".tar.gz")).hash == expected


def test_where_wrapped_data_was_taken_from_is_told(folder: Path) -> None:
    said: list[str] = []
    sources.read_source(wrapped(folder, "a", "b"), said.append)

    assert said == ["decoding 50 images of top in a/b/, once"]


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_split_alone_in_another_folder_is_told(folder: Path, form: str, split: str) -> None:
    shutil.rmtree(folder / ({"train", "test"} - {split}).pop())
    top = wrapped(folder, "a")
    message = refused(top if form == "folder" else in_zip(top, top.with_suffix(".zip"), ""))

    assert (
        f"no train/ with test/ beside it; expected train/<class>/* and test/<class>/*; 'a/' has {split}/ alone"
        in message
    )


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "test")])
def test_the_letter_case_of_the_splits_does_not_count(folder: Path, form: str, train: str, test: str) -> None:
    before = sources.read_source(folder).hash
    (folder / "train").rename(folder / train)
    (folder / "test").rename(folder / test)
    source = folder if form == "folder" else in_zip(folder, folder.with_suffix(".zip"), "")

    assert sources.read_source(source).hash == before


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_val_stands_for_test_where_there_is_none_and_the_name_says_so(folder: Path, val: str) -> None:
    before = sources.read_source(folder)
    (folder / "test").rename(folder / val)
    dataset = sources.read_source(folder)

    assert dataset.name == "pictures (val as test)"
    assert dataset.hash == before.hash


def test_val_beside_test_is_passed_over(folder: Path) -> None:
    before = sources.read_source(folder)
    shutil.copytree(folder / "test", folder / "val")

    assert sources.read_source(folder).hash == before.hash
    assert sources.read_source(folder).name == "pictures"


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_what_operating_systems_leave_behind_is_passed_over(folder: Path, form: str) -> None:
    before = sources.read_source(folder).hash
    for name in (".DS_Store", "Thumbs.db", "thumbs.DB", "desktop.ini", "._0.png"):
        (folder / "train" / "cat" / name).write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "__MACOSX" / "train").mkdir(parents=True)
    (folder / "__MACOSX" / "train" / "._cat").write_bytes(b"x")
    source = folder if form == "folder" else in_zip(folder, folder.with_suffix(".zip"), "")

    assert sources.read_source(source).hash == before


def test_backslashes_of_old_zippers_are_separators(folder: Path) -> None:
    path = folder.with_suffix(".zip")
    with ZipFile(path, "w") as archive:
        for file in folder.rglob("*.png"):
            archive.writestr(str(file.relative_to(folder)).replace("/", "\\"), file.read_bytes())

    assert sources.read_source(path).hash == sources.read_source(folder).hash


def test_kaggles_last_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    data = made.small()
    dataset = sources.read_source(made.kaggle_folder(data, tmp_path / "kaggle"))
    labels = data.arrays.train_labels

    assert dataset.name == "kaggle (test held out of train)"
    assert dataset.classes == made.CLASSES
    assert np.bincount(dataset.train_labels).tolist() == [8] * 10
    assert np.bincount(dataset.test_labels).tolist() == [2] * 10
    held_out = sorted(i for c in range(10) for i in np.flatnonzero(labels == c)[-2:])
    np.testing.assert_array_equal(dataset.test_images, data.arrays.train_images[held_out])


@pytest.mark.parametrize(
    "keys",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_x", "train_y", "test_x", "test_y"),
        ("trainImages", "trainLabels", "testImages", "testLabels"),
        ("train_data", "train_targets", "test_data", "test_targets"),
    ],
)
@pytest.mark.parametrize("planes_first", [False, True])
def test_an_npz_is_read_by_its_keys(tmp_path: Path, keys: tuple[str, ...], planes_first: bool) -> None:
    arrays = made.small().arrays
    values = [a.transpose(0, 3, 1, 2) if planes_first and a.ndim == 4 else a for a in arrays]
    np.savez(tmp_path / "a.npz", **dict(zip(keys, values, strict=True)))
    dataset = sources.read_source(tmp_path / "a.npz")

    assert (dataset.name, dataset.classes) == ("a", tuple("0123456789"))
    for name, expected in arrays._asdict().items():
        np.testing.assert_array_equal(getattr(dataset, name), expected)


def test_an_npz_may_name_its_classes_and_hold_val_for_test(tmp_path: Path) -> None:
    a = made.small().arrays
    np.savez(tmp_path / "a.npz", x_train=a.train_images, y_train=a.train_labels, x_val=a.test_images,
             y_val=a.test_labels, classes=np.array(made.CLASSES))  # fmt: skip
    dataset = sources.read_source(tmp_path / "a.npz")

    assert (dataset.name, dataset.classes) == ("a (val as test)", made.CLASSES)


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        sources.read_source(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_beside_the_data_does_not_change_the_key(tmp_path: Path) -> None:
    made.python_folder(made.small(), tmp_path)
    before = sources.key(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")

    assert sources.key(tmp_path) == before


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    (made.python_folder(made.small(), tmp_path) / "data_batch_3").unlink()

    assert "'data_batch_3' is missing" in refused(tmp_path)


def test_kaggles_images_that_were_not_unpacked_are_named(tmp_path: Path) -> None:
    shutil.rmtree(made.kaggle_folder(made.small(), tmp_path / "kaggle") / "train")

    assert "unpack train.7z first" in refused(tmp_path / "kaggle")


@pytest.mark.parametrize("row", ["7", "7,", "7,a,b"])
def test_a_row_of_kaggles_labels_that_is_not_an_id_and_a_label_is_named(tmp_path: Path, row: str) -> None:
    file = made.kaggle_folder(made.small(), tmp_path / "kaggle") / "trainLabels.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:7], row, *lines[8:]]) + "\n")

    assert refused(tmp_path / "kaggle").endswith(f": 'trainLabels.csv': row 7 is '{row}'; 2 filled fields wanted")


def test_what_is_there_instead_of_train_is_told(folder: Path) -> None:
    (folder / "train").rename(folder / "training")
    (folder / "test").rename(folder / "testing")

    assert refused(folder).endswith("; it holds testing/, training/; rename 'training' to 'train', 'testing' to 'test'")


@pytest.mark.parametrize("name", ["Training", "train_set", "TrainImages", "training-data"])
def test_a_usual_name_of_the_training_images_is_to_be_renamed(folder: Path, name: str) -> None:
    shutil.rmtree(folder / "test")
    (folder / "train").rename(folder / name)

    assert refused(folder).endswith(f"; it holds {name}/; rename '{name}' to 'train'")


@pytest.mark.parametrize("classes", [("bar", "ring", "square"), ("rain", "brain"), ("trail", "trains"), ("eval",)])
def test_no_class_is_to_be_renamed(tmp_path: Path, classes: tuple[str, ...]) -> None:
    for name in classes:
        (tmp_path / "unsplit" / name).mkdir(parents=True)

    assert refused(tmp_path / "unsplit").endswith(f"it holds {', '.join(f'{name}/' for name in sorted(classes))}")


def test_of_two_data_sets_in_a_folder_one_has_to_be_named(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(folder, tmp_path / "both" / name)

    assert "more than one data set: 'a/', 'b/'" in refused(tmp_path / "both")


def test_a_single_parquet_file_and_an_archive_in_an_archive_say_what_to_give(tmp_path: Path) -> None:
    parquet = made.parquet_folder(made.small(), tmp_path / "hub") / "train-00000-of-00001.parquet"
    inner = made.packed(made.python_folder(made.small(), tmp_path), tmp_path / "cifar-10-python.tar.gz")
    with ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "cifar-10-python.tar.gz")

    assert "give the folder that holds train-*.parquet" in refused(parquet)
    assert "it holds 'cifar-10-python.tar.gz'; unpack it" in refused(tmp_path / "outer.zip")

"""Test sets without training images beside them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from made.cifar_files import png

from cifar_lab.errors import DataError
from cifar_lab.inference.test_set import read_test_set

CLASSES = ("cat", "dog", "frog")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 0, 2, 2])


def _folders(root: Path) -> Path:
    """Write images 0 to 5 to the folders of their classes."""
    for at, label in enumerate(LABELS):
        folder = root / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{at}.png").write_bytes(png(PIXELS[at]))
    return root


def _zipped(root: Path) -> Path:
    target = root.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in root.rglob("*.png"):
            archive.write(path, path.relative_to(root.parent))
    return target


@pytest.mark.parametrize("inner", ["", "test", "wrapper/Test", "wrapper"])
@pytest.mark.parametrize("zipped", [False, True])
def test_folders_of_classes(tmp_path: Path, inner: str, zipped: bool) -> None:
    root = tmp_path / "photos"
    _folders(root / inner)
    found = read_test_set(_zipped(root) if zipped else root, CLASSES, 32)
    assert found is not None
    order = np.argsort(LABELS, kind="stable")  # cat/1.png, cat/3.png, dog/2.png, …
    assert np.array_equal(found.images, PIXELS[order])
    assert found.labels.tolist() == LABELS[order].tolist()
    assert found.notes == ()


def test_some_classes_suffice_and_other_files_are_noted(tmp_path: Path) -> None:
    (tmp_path / "frog").mkdir()
    (tmp_path / "frog" / "a.png").write_bytes(png(PIXELS[0]))
    (tmp_path / "readme.txt").write_text("x")
    found = read_test_set(tmp_path, CLASSES, 32)
    assert found is not None
    assert found.labels.tolist() == [2]
    assert "1, 'readme.txt'" in found.notes[0]


def test_what_is_no_test_set_alone_is_left_to_the_reader_of_data_sets(tmp_path: Path) -> None:
    for split in ("train", "test"):
        _folders(tmp_path / "whole" / split)
    assert read_test_set(tmp_path / "whole", CLASSES, 32) is None
    _folders(tmp_path / "others")
    assert read_test_set(tmp_path / "others", ("cat", "dog"), 32) is None
    np.savez(tmp_path / "whole.npz", x_train=PIXELS, y_train=LABELS, x_test=PIXELS, y_test=LABELS)
    assert read_test_set(tmp_path / "whole.npz", CLASSES, 32) is None
    np.savez(tmp_path / "keras.npz", train_images=PIXELS, train_labels=LABELS, test_images=PIXELS, test_labels=LABELS)
    assert read_test_set(tmp_path / "keras.npz", CLASSES, 32) is None
    (tmp_path / "a.pickle").write_bytes(b"\x80")
    assert read_test_set(tmp_path / "a.pickle", CLASSES, 32) is None


@pytest.mark.parametrize("names", [("data", "labels"), ("x", "y"), ("test_images", "test_labels")])
def test_an_npz_of_images_and_labels(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "set.npz", **{names[0]: PIXELS.transpose(0, 3, 1, 2), names[1]: LABELS[:, None]})
    found = read_test_set(tmp_path / "set.npz", CLASSES, 32)
    assert found is not None
    assert np.array_equal(found.images, PIXELS)
    assert found.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(("images", "labels"), [
    ("fog.npy", "labels.npy"), ("cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy"), ("images.npy", "labels.npy"),
])  # fmt: skip
def test_an_array_with_its_labels_beside_it(tmp_path: Path, images: str, labels: str) -> None:
    np.save(tmp_path / images, PIXELS)
    np.save(tmp_path / labels, LABELS.astype(np.int32))
    found = read_test_set(tmp_path / images, CLASSES, 32)
    assert found is not None
    assert np.array_equal(found.images, PIXELS)
    assert found.labels.tolist() == LABELS.tolist()


def test_bad_test_sets_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "v6_data.npy", PIXELS)
    with pytest.raises(DataError, match=r"no labels beside it; expected v6_labels.npy or labels.npy in"):
        read_test_set(tmp_path / "v6_data.npy", CLASSES, 32)
    np.save(tmp_path / "v6_labels.npy", LABELS[:4])
    with pytest.raises(DataError, match=r"6 images in 'v6_data.npy' and 4 labels in 'v6_labels.npy'"):
        read_test_set(tmp_path / "v6_data.npy", CLASSES, 32)
    np.save(tmp_path / "v6_labels.npy", LABELS + 1)
    with pytest.raises(DataError, match=r"'v6_labels.npy' has the label 3; the runs know 3 classes"):
        read_test_set(tmp_path / "v6_data.npy", CLASSES, 32)
    np.save(tmp_path / "v6_labels.npy", LABELS)
    with pytest.raises(DataError, match=r"expected \(N, 64, 64, 3\)"):
        read_test_set(tmp_path / "v6_data.npy", CLASSES, 64)
    (_folders(tmp_path / "deep") / "cat" / "more").mkdir()
    (tmp_path / "deep" / "cat" / "more" / "9.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(DataError, match=r"'cat/more/9\.png' is not in the folder of a class"):
        read_test_set(tmp_path / "deep", CLASSES, 32)
    (tmp_path / "deep" / "cat" / "more" / "9.png").unlink()
    (tmp_path / "deep" / "dog" / "8.png").write_bytes(png(PIXELS[0][:16, :16]))
    with pytest.raises(DataError, match=r"8\.png"):
        read_test_set(tmp_path / "deep", CLASSES, 32)

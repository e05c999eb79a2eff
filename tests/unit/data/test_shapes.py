"""Data sets of any number of classes and any side: what is read, what is refused, and how it is augmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made import cifar_files as made

from cifar_lab.config.recipe import DataConfig
from cifar_lab.data import load, validation
from cifar_lab.data.augmentation import augment, draw_epoch, normalise_only
from cifar_lab.data.splits import split
from cifar_lab.errors import DataError


@pytest.mark.parametrize(("classes", "side"), [(2, 8), (3, 48), (12, 33)])
def test_a_folder_of_any_classes_and_side_is_read_and_kept(
    tmp_path: Path, cache_root: Path, classes: int, side: int
) -> None:
    folder = made.sized_folder(tmp_path / "pictures", classes=classes, side=side)
    first, again = load(str(folder)), load(str(folder))
    assert first.shape == again.shape == (classes, side)
    assert (first.kind, first.train_images.shape) == ("path", (4 * classes, side, side, 3))
    assert first.hash == again.hash
    parts = split(first, DataConfig(val_fraction=0.25), "holdout", torch.device("cpu"))
    assert parts.shape == (classes, side)
    assert len(parts.watched) == classes


@pytest.mark.parametrize("layout", ["(N, side, side, 3)", "(N, 3, side, side)", "(N, 3 * side²)"])
def test_an_npz_of_any_side_is_read(tmp_path: Path, cache_root: Path, layout: str) -> None:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8) for name in ("train", "test")}
    labels = np.array([0, 1, 2] * 2)
    planes = {name: each.transpose(0, 3, 1, 2) for name, each in images.items()}
    stored = {
        "(N, side, side, 3)": images,
        "(N, 3, side, side)": planes,
        "(N, 3 * side²)": {name: each.reshape(6, -1) for name, each in planes.items()},
    }[layout]
    np.savez(tmp_path / "few.npz", x_train=stored["train"], y_train=labels, x_test=stored["test"], y_test=labels)
    data = load(str(tmp_path / "few.npz"))
    assert data.shape == (3, 16)
    assert np.array_equal(data.train_images, images["train"])


@pytest.mark.parametrize(
    ("side", "rule"), [(7, "7×7; sides of 8 to 256 pixels are supported"), (257, "257×257; sides of 8 to 256")]
)
def test_a_side_that_is_not_supported_is_named(tmp_path: Path, cache_root: Path, side: int, rule: str) -> None:
    folder = made.sized_folder(tmp_path / "pictures", classes=2, side=side, train=2, test=1)
    with pytest.raises(DataError, match=rule):
        load(str(folder))


def test_images_that_are_not_square_are_refused(tmp_path: Path, cache_root: Path) -> None:
    wide, labels = np.zeros((4, 16, 20, 3), np.uint8), np.array([0, 0, 1, 1])
    np.savez(tmp_path / "wide.npz", x_train=wide, y_train=labels, x_test=wide, y_test=labels)
    with pytest.raises(DataError, match=r"is 16×20; expected square images"):
        load(str(tmp_path / "wide.npz"))


def test_train_and_test_of_different_sides_are_refused(tmp_path: Path, cache_root: Path) -> None:
    labels = np.array([0, 0, 1, 1])
    one, other = np.zeros((4, 16, 16, 3), np.uint8), np.zeros((4, 20, 20, 3), np.uint8)
    np.savez(tmp_path / "mixed.npz", x_train=one, y_train=labels, x_test=other, y_test=labels)
    with pytest.raises(DataError, match="images of train are 16×16, those of test 20×20"):
        load(str(tmp_path / "mixed.npz"))


def test_more_pixels_than_memory_is_meant_for_are_refused_before_they_are_decoded() -> None:
    validation.check_room(50_000, 128)
    with pytest.raises(DataError, match=r"50,000 images of 256×256 take 9 GiB; at most 8"):
        validation.check_room(50_000, 256)


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"found 1,001 classes .*2 to 1,000 are supported"):
        validation.check_classes(tuple(map(str, range(1001))), [], [])


def test_a_batch_of_another_side_is_augmented_as_one_of_32() -> None:
    """Crop, flip, cutout and both mixes keep the shape, and targets are probabilities of that many classes."""
    data = DataConfig(crop=2, cutout=6, mixup=0.3, cutmix=1.0)
    images = torch.randint(256, (9, 20, 20, 3), dtype=torch.uint8)
    draws = draw_epoch(data, 9, seed=0, epoch=0, side=20)
    assert int(draws.cutout.max()) <= 20
    inputs, targets = augment(images, torch.arange(9) % 7, draws, data, 7)
    assert inputs.shape == (9, 3, 20, 20)
    assert targets.shape == (9, 7)
    assert torch.allclose(targets.sum(1), torch.ones(9))


def test_pixels_of_another_side_are_normalised_by_channel() -> None:
    image = torch.full((1, 12, 12, 3), 255, dtype=torch.uint8)
    white = normalise_only(image, DataConfig())
    assert white.shape == (1, 3, 12, 12)
    assert torch.equal(
        white, normalise_only(torch.full((1, 32, 32, 3), 255, dtype=torch.uint8), DataConfig())[..., :12, :12]
    )

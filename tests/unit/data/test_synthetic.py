"""The synthetic images: the same bytes everywhere, fair to flips, and of little use to a linear classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal

from cifar_lab.data.dataset import Dataset, Images, content_hash
from cifar_lab.data.synthetic import PATTERNS, SIDE, TEST_PER_CLASS, TRAIN_PER_CLASS, Pattern, PatternGrid, generate

# A change here means other images, and so other cells. Where that is meant, measure the smoke cell anew.
GOLDEN = "fbb2ce0d7f54d77580d194748a68f5ab29252747ac1b30a8c15bf5af23eda23d"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return generate()


def test_it_says_what_it_is(data: Dataset) -> None:
    assert data.name == "synthetic, not CIFAR-10"
    assert data.kind == "synthetic"


def test_it_is_shown_in_one_line_without_pixels(data: Dataset) -> None:
    counts = f"{10 * TRAIN_PER_CLASS:,} training and {10 * TEST_PER_CLASS:,} test images"
    shown = f"<Dataset 'synthetic, not CIFAR-10': {counts} of 32×32, 10 classes, hash {data.hash[:12]}>"
    assert repr(data) == shown


def test_ten_classes_have_names_of_their_own(data: Dataset) -> None:
    assert len(data.classes) == len(set(data.classes)) == 10


@pytest.mark.parametrize(("part", "per_class"), [("train", TRAIN_PER_CLASS), ("test", TEST_PER_CLASS)])
def test_images_and_labels_are_cifar_shaped_and_balanced(data: Dataset, part: str, per_class: int) -> None:
    images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
    assert images.shape == (10 * per_class, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert_array_equal(np.bincount(labels), [per_class] * 10)


def test_the_same_bytes_each_time_and_everywhere(data: Dataset) -> None:
    assert data.hash == generate().hash == GOLDEN


def test_hash_is_that_of_the_content(data: Dataset) -> None:
    arrays = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    assert data.hash == content_hash(data.classes, *arrays)


def test_no_image_comes_twice(data: Dataset) -> None:
    images = [image.tobytes() for image in (*data.train_images, *data.test_images)]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_mirror_image_is_of_the_same_class(pattern: Pattern) -> None:
    u, v = np.random.default_rng(0).uniform(-4, 4, (2, 3, SIDE, SIDE))
    hand = np.array([-1.0, 1.0, 1.0]).reshape(3, 1, 1)
    assert_allclose(pattern(PatternGrid(u=-u, v=v, hand=-hand)), pattern(PatternGrid(u=u, v=v, hand=hand)), atol=1e-9)


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern.__name__ != "rings"])
def test_a_pattern_repeats_after_four_units(pattern: Pattern) -> None:
    u, v = np.random.default_rng(0).uniform(-4, 4, (2, 1, SIDE, SIDE))
    here = pattern(PatternGrid(u=u, v=v, hand=np.ones((1, 1, 1))))
    assert_allclose(pattern(PatternGrid(u=u + 4, v=v, hand=np.ones((1, 1, 1)))), here, atol=1e-9)
    assert_allclose(pattern(PatternGrid(u=u, v=v + 4, hand=np.ones((1, 1, 1)))), here, atol=1e-9)


@pytest.mark.parametrize("l2", [0.1, 1.0])  # around the best of 1e-4 to 1
def test_a_linear_classifier_stays_low(data: Dataset, l2: float) -> None:
    assert _linear_accuracy(data, l2) < 0.30


def _linear_accuracy(data: Dataset, l2: float) -> float:
    """Test accuracy of multinomial logistic regression on the pixels, trained until its loss stands still."""
    train, labels = _rows(data.train_images), torch.from_numpy(data.train_labels)
    weight, bias = torch.zeros(10, train.shape[1], requires_grad=True), torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=40, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(train @ weight.T + bias, labels) + l2 / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    predicted = (_rows(data.test_images) @ weight.T + bias).argmax(1)
    return float((predicted == torch.from_numpy(data.test_labels)).float().mean())


def _rows(images: Images) -> torch.Tensor:
    return (torch.from_numpy(images).flatten(1).float() / 255 - 0.5) * 4  # (N, 3072), about unit deviation

"""Random erasing: rectangles are drawn as torchvision draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torchvision.transforms import v2

from cifar_lab.config.augmentation_policy import RandomErasingConfig
from cifar_lab.config.recipe import DataConfig
from cifar_lab.data.augmentation import augment, draw_epoch
from cifar_lab.data.random_erasing import draw_erased_boxes

ALWAYS = RandomErasingConfig(probability=1.0)


def test_the_defaults_are_torchvisions() -> None:
    theirs = v2.RandomErasing()
    assert (ALWAYS.area, ALWAYS.ratio) == (theirs.scale, theirs.ratio)


@pytest.mark.parametrize(
    "config",
    [ALWAYS, RandomErasingConfig(probability=1.0, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3))],
    ids=["torchvision's", "the paper's"],
)
def test_rectangles_are_distributed_as_torchvisions(config: RandomErasingConfig) -> None:
    transform, image = v2.RandomErasing(p=1, scale=config.area, ratio=config.ratio), torch.zeros(3, 32, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [transform.make_params([image]) for _ in range(4000)]
    theirs = np.array([[each[key] for key in "ijhw"] for each in drawn])
    boxes = draw_erased_boxes(config, 50_000, 32, np.random.default_rng(0))
    ours = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    assert_allclose(ours.mean(0), theirs.mean(0), atol=0.5)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    for column in range(4):
        assert_allclose(np.quantile(ours[:, column], levels), np.quantile(theirs[:, column], levels), atol=1)
    areas = [(each[:, 2] * each[:, 3]) / 1024 for each in (ours, theirs)]
    assert_allclose(np.quantile(areas[0], levels), np.quantile(areas[1], levels), atol=0.015)


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_a_share_of_the_images_is_erased(probability: float) -> None:
    config = RandomErasingConfig(probability=probability)
    boxes = draw_erased_boxes(config, 20_000, 32, np.random.default_rng(0))
    assert ((boxes[:, 2:] > boxes[:, :2]).all(1)).mean() == pytest.approx(probability, abs=0.01)
    assert boxes.min() >= 0
    assert boxes.max() <= 32


def test_the_same_rectangles_are_drawn_at_any_probability() -> None:
    some, all_ = (
        draw_erased_boxes(RandomErasingConfig(probability=p), 1000, 32, np.random.default_rng(3)) for p in (0.4, 1.0)
    )
    erased = some[:, 2] > some[:, 0]
    assert 300 < erased.sum() < 500
    assert (some[erased] == all_[erased]).all()


def test_nothing_is_erased_where_no_rectangle_fits() -> None:
    config = RandomErasingConfig(probability=1.0, area=(1.0, 1.0), ratio=(1.0, 1.0))
    boxes = draw_erased_boxes(config, 100, 32, np.random.default_rng(0))
    assert (boxes[:, :2] == boxes[:, 2:]).all()


def test_an_erased_rectangle_has_the_mean_colour_and_the_rest_is_as_before() -> None:
    plain = DataConfig(crop=0, flip=False)
    data = plain.model_copy(update={"random_erasing": ALWAYS})
    images = torch.randint(1, 256, (16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(16, dtype=torch.int64)
    draws = draw_epoch(data, 16, seed=0, epoch=0)
    erased, _ = augment(images, labels, draws, data)
    whole, _ = augment(images, labels, draws, plain)
    for image, before, box in zip(erased, whole, draws.erased.tolist(), strict=True):
        expected = before.clone()
        expected[:, box[0] : box[2], box[1] : box[3]] = 0
        assert image.equal(expected)

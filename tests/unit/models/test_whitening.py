"""The stem that whitens: outputs without correlation, fixed, saved with the weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lab.config.recipe import DataConfig, ModelConfig, Recipe
from cifar_lab.data.splits import ImageSubset
from cifar_lab.models.resnet import build_resnet
from cifar_lab.models.whitening import FILTERS, PATCH, Whitening, patch_covariance, whitening
from cifar_lab.train.whiten import whiten

SMALL = ModelConfig(blocks=(1,), width=8, stem="whitening")


def correlated(n: int = 64) -> Tensor:
    """Smooth images, as natural ones are: (n, 3, 32, 32)."""
    noise = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise, 3, stride=1, padding=1) * 3 + noise / 3


def test_the_covariance_is_that_of_all_patches() -> None:
    images = correlated(8)
    patches = torch.stack(
        [image[:, y : y + 3, x : x + 3].flatten() for image in images for y in range(30) for x in range(30)]
    )
    torch.testing.assert_close(patch_covariance(images), (patches.T @ patches / len(patches)).double())


def test_whitened_patches_are_uncorrelated_and_of_variance_one() -> None:
    covariance = patch_covariance(correlated())
    rows = whitening(covariance)
    torch.testing.assert_close(rows @ covariance @ rows.T, torch.eye(PATCH).double(), atol=0.05, rtol=0)


def test_both_signs_of_each_filter_are_there_and_the_relu_keeps_one() -> None:
    stem = Whitening()
    stem.fit(correlated())
    assert torch.equal(stem.filters[:PATCH], -stem.filters[PATCH:])
    out = stem(correlated(2))
    assert out.shape == (2, FILTERS, 32, 32)
    linear = F.conv2d(correlated(2), stem.filters[:PATCH], padding=1)
    torch.testing.assert_close(out[:, :PATCH] - out[:, PATCH:], linear)


def test_a_network_is_fitted_to_its_training_images_alike_for_every_seed() -> None:
    pixels = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    part = ImageSubset(pixels, torch.arange(40) % 10, torch.arange(40))
    first, second = (build_resnet(SMALL, seed=seed) for seed in (0, 1))
    fresh = first.whitening.filters.clone()
    for net in (first, second):
        whiten(net, part, DataConfig())
    assert not torch.equal(first.whitening.filters, fresh)
    assert torch.equal(first.whitening.filters, second.whitening.filters)


def test_the_filters_are_saved_with_the_weights_and_not_trained() -> None:
    net = build_resnet(SMALL, seed=0)
    assert "whitening.filters" in net.state_dict()
    assert "whitening.filters" not in dict(net.named_parameters())


def test_a_network_with_a_plain_stem_is_left_alone() -> None:
    net = build_resnet(Recipe().override({"model.width": 8, "model.blocks": (1,)}).model, seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    pixels = torch.zeros(4, 32, 32, 3, dtype=torch.uint8)
    whiten(net, ImageSubset(pixels, torch.zeros(4, dtype=torch.int64), torch.arange(4)), DataConfig())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

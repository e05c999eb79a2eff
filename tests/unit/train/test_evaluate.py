"""Test-time augmentation: views and their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from cifar_lab.config.recipe import DataConfig
from cifar_lab.data.splits import ImageSubset
from cifar_lab.train.evaluate import evaluate_network, views


def images(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Reading(nn.Module):
    """Logits of a fixed random linear reading of the pixels: views that differ are told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = nn.Linear(3 * 32 * 32, 10)
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.reading.weight, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.reading(x.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("tta", ["none", "flip", "flip_shift"])
def test_weights_sum_to_one_and_a_view_has_the_shape_of_the_images(tta: Any) -> None:
    shown = views(images(), tta)
    assert sum(weight for weight, _ in shown) == pytest.approx(1)
    assert all(view.shape == (4, 3, 32, 32) for _, view in shown)


def test_without_it_the_images_are_shown_as_they_are() -> None:
    ((weight, view),) = views(images(), "none")
    assert weight == 1
    assert torch.equal(view, images())


def test_flip_shows_each_image_and_its_mirror() -> None:
    (_, plain), (_, mirror) = views(images(), "flip")
    assert torch.equal(plain, images())
    assert torch.equal(mirror, tv.horizontal_flip(images()))


def test_flip_shift_moves_by_a_pixel_to_both_sides_with_the_edge_reflected() -> None:
    shown = views(images(), "flip_shift")
    padded = tv.pad(images(), [1], padding_mode="reflect")
    expected = [images(), tv.crop(padded, 0, 0, 32, 32), tv.crop(padded, 2, 2, 32, 32)]
    expected = [each for one in expected for each in (one, tv.horizontal_flip(one))]
    assert [weight for weight, _ in shown] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    assert all(torch.equal(view, other) for (_, view), other in zip(shown, expected, strict=True))


def test_accuracy_is_that_of_the_mean_of_the_logits() -> None:
    pixels = torch.randint(0, 256, (30, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    part, net = ImageSubset(pixels, torch.arange(30) % 10, torch.arange(30)), Reading()
    plain = evaluate_network(net, part, DataConfig(normalise=False), "fp32")
    judged = evaluate_network(net, part, DataConfig(normalise=False), "fp32", "flip")
    seen = pixels.permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        logits = (net(seen) + net(seen.flip(3))) / 2
    assert torch.equal(judged.predictions, logits.argmax(1))
    assert not torch.equal(judged.predictions, plain.predictions)

"""Corruptions: deterministic, none at strength 0, stronger by strength, the same in every batch."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from cifar_lab.data.synthetic import generate
from cifar_lab.errors import UsageError
from cifar_lab.inference import corruptions, image_filters, jpeg
from cifar_lab.inference.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from cifar_lab.inference.counter_draws import CounterDraws

NAMES = sorted(CORRUPTIONS)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Sixty drawn pictures, (60, 32, 32, 3), half of them smoothed, as photographs are smoother than drawings."""
    drawn = torch.from_numpy(np.array(generate().test_images[:60]))
    smooth = image_filters.gaussian_filtered(drawn[::2].permute(0, 3, 1, 2).float(), 1.5)
    return torch.cat([drawn[1::2], smooth.round().to(torch.uint8).permute(0, 2, 3, 1)]).contiguous()


@pytest.fixture(scope="module")
def index(images: Tensor) -> Tensor:
    return torch.arange(100, 100 + len(images))


def _distance(a: Tensor, b: Tensor) -> float:
    return (a.float() - b.float()).abs().mean().item()


def test_there_are_fifteen_or_more_with_five_strengths_of_each_published_group() -> None:
    assert len(CORRUPTIONS) >= 15
    assert {each.kind for each in CORRUPTIONS.values()} == {"noise", "blur", "weather", "digital"}
    assert all(len(each.levels) == len(STRENGTHS) == 5 for each in CORRUPTIONS.values())


@pytest.mark.parametrize("name", NAMES)
def test_strength_0_and_neutral_parameters_change_nothing(name: str, images: Tensor, index: Tensor) -> None:
    assert torch.equal(corrupt(images, name, 0, index), images)
    corruption = CORRUPTIONS[name]
    if corruption.neutral is None:
        assert name in {"shot_noise", "snow", "jpeg"}, "these have no parameters without an effect"
        return
    values = images.permute(0, 3, 1, 2).contiguous().float() / 255
    kept = corruption.apply(values, corruption.neutral, CounterDraws(seed=0, purpose=name, index=index))
    assert torch.equal((kept.clamp(0, 1) * 255).round(), (values * 255).round())


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_distortion_rises_with_strength(name: str, images: Tensor, index: Tensor) -> None:
    distances = [_distance(corrupt(images, name, strength, index), images) for strength in (0, *STRENGTHS)]
    assert distances[0] == 0.0 < distances[1]
    assert distances == sorted(distances), distances
    assert distances[5] > 1.25 * distances[1]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_corrupted_alike_in_every_batch_and_every_time(name: str, images: Tensor, index: Tensor) -> None:
    whole = corrupt(images, name, 3, index)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    for size in (1, 7):
        parts = [corrupt(images[at : at + size], name, 3, index[at : at + size]) for at in range(0, 21, size)]
        assert torch.equal(torch.cat(parts), whole[:21])


RANDOM = [
    name
    for name in NAMES
    if name
    not in {"gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate", "pixelate", "jpeg"}
]


@pytest.mark.parametrize("name", RANDOM)
def test_seeds_and_positions_give_other_draws(name: str, images: Tensor, index: Tensor) -> None:
    one = corrupt(images, name, 5, index)
    assert _distance(one, corrupt(images, name, 5, index, seed=1)) > 0
    assert _distance(one, corrupt(images, name, 5, index + 1)) > 0


def test_noise_has_the_stated_deviation() -> None:
    grey = torch.full((40, 32, 32, 3), 128, dtype=torch.uint8)
    index = torch.arange(40)
    for strength, (deviation,) in zip(STRENGTHS, CORRUPTIONS["gaussian_noise"].levels, strict=True):
        changed = corrupt(grey, "gaussian_noise", strength, index).float() / 255
        assert changed.std().item() == pytest.approx(deviation, rel=0.02)
    hit = (corrupt(grey, "impulse_noise", 5, index) != 128).float().mean().item()
    assert hit == pytest.approx(0.07, rel=0.05)


@pytest.mark.parametrize("photons", [50.0, 500.0])
def test_shot_noise_counts_like_a_poisson_process(photons: float) -> None:
    values = torch.full((30, 3, 32, 32), 0.5)
    draws = CounterDraws(seed=0, purpose="shot_noise", index=torch.arange(30))
    counts = (CORRUPTIONS["shot_noise"].apply(values, (photons,), draws) * photons).round().numpy().ravel()
    for quantile in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert abs(np.quantile(counts, quantile) - stats.poisson.ppf(quantile, photons / 2)) <= 1
    assert counts.var() == pytest.approx(photons / 2, rel=0.03)


@pytest.mark.parametrize("quality", [80, 40])
def test_jpeg_comes_close_to_a_real_encoder(quality: int, images: Tensor) -> None:
    ours = jpeg.compressed(images.permute(0, 3, 1, 2).float() / 255, quality).clamp(0, 1) * 255
    theirs = []
    for image in images.numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        theirs.append(np.asarray(Image.open(file)))
    real = torch.from_numpy(np.stack(theirs)).permute(0, 3, 1, 2)
    original = images.permute(0, 3, 1, 2)
    assert _distance(ours, real) < 0.6 * _distance(real, original), "more than half of the loss is the same"


def test_brightness_and_saturation_are_those_of_hsv(images: Tensor, index: Tensor) -> None:
    import colorsys

    bright, vivid = (corrupt(images, name, 3, index) for name in ("brightness", "saturate"))
    added, (factor, more) = CORRUPTIONS["brightness"].levels[2][0], CORRUPTIONS["saturate"].levels[2]
    for row, column in ((3, 4), (17, 9), (30, 30)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(images[7, row, column].double() / 255).tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + added))
        assert bright[7, row, column].tolist() == pytest.approx([255 * v for v in expected], abs=1)
        expected = colorsys.hsv_to_rgb(hue, min(1, saturation * factor + more) if saturation else 0, value)
        assert vivid[7, row, column].tolist() == pytest.approx([255 * v for v in expected], abs=1)


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no corruption named 'fogg'; did you mean 'fog'\?"):
        corruptions.find_corruptions(["fogg"])
    assert [each.name for each in corruptions.find_corruptions(["jpeg", "fog"])] == ["fog", "jpeg"]
    assert len(corruptions.find_corruptions([])) == len(CORRUPTIONS)

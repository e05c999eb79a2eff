"""Corruptions of images at five strengths, in the spirit of CIFAR-10-C, generated in batches on the device.

Hendrycks and Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations". The
parameters are those of the published program for CIFAR-10 (`make_cifar_c.py`) unless `published` is False. The images
are not those of the published archive: random draws differ, and fog, frost and snow are generated here. Draws depend on
seed, corruption and the position of the image, and are the same at every strength.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lab.errors import UsageError, nearest
from cifar_lab.inference import image_filters, jpeg
from cifar_lab.inference.counter_draws import CounterDraws

Parameters = tuple[float, ...]
Apply = Callable[[Tensor, Parameters, CounterDraws], Tensor]
"""Function of images (B, 3, H, W) in [0, 1], parameters and draws; it may return values outside of [0, 1]."""
STRENGTHS = (1, 2, 3, 4, 5)
SEED = 0
"""Seed of the corruptions where none is given."""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness (ITU-R BT.601)."""
FROST_COLOUR = (0.80, 0.90, 1.00)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One kind of corruption with its parameters by strength."""

    name: str
    kind: str
    """Group of the published benchmark: noise, blur, weather or digital."""
    apply: Apply
    levels: tuple[Parameters, Parameters, Parameters, Parameters, Parameters]
    """Parameters at strength 1 to 5."""
    meaning: str
    """Names of the parameters, for the documentation."""
    neutral: Parameters | None = None
    """Parameters that change nothing; None where there are none."""
    published: bool = True
    """True if the parameters are those of the published program."""


def corrupt(images: Tensor, name: str, strength: int, index: Tensor, seed: int = SEED) -> Tensor:
    """Return corrupted images, (B, 32, 32, 3) uint8, on the device of `images`.

    Args:
        images: (B, 32, 32, 3) uint8.
        name: name of a corruption in `CORRUPTIONS`.
        strength: 1 to 5, or 0 for no change.
        index: (B,) int64: positions of the images in their source, which the random draws depend on.
        seed: seed of the random draws.
    """
    if strength == 0:
        return images.clone()
    corruption = CORRUPTIONS[name]
    draws = CounterDraws(seed=seed, purpose=name, index=index.to(images.device))
    values = images.permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255
    changed = corruption.apply(values, corruption.levels[strength - 1], draws)
    return torch.round(changed.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def find_corruptions(names: Sequence[str]) -> tuple[Corruption, ...]:
    """Return the corruptions of these names, each once, in the order of `CORRUPTIONS`; all without names.

    Raises:
        UsageError: there is none of a name.
    """
    for name in names:
        if name not in CORRUPTIONS:
            raise UsageError(f"no corruption named '{name}'{nearest(name, CORRUPTIONS)}")
    return tuple(each for name, each in CORRUPTIONS.items() if not names or name in names)


def _gaussian_noise(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    return images + parameters[0] * draws.normal(0, *images.shape[1:])


def _shot_noise(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    """Count photons: Poisson numbers by the normal quantile with a correction for skewness (Cornish and Fisher)."""
    rate = images * parameters[0]
    deviate = draws.normal(0, *images.shape[1:])
    counts = torch.round(rate + torch.sqrt(rate) * deviate + (deviate * deviate - 1) / 6).clamp(min=0)
    return torch.where(rate > 0, counts, rate) / parameters[0]


def _impulse_noise(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    is_hit = draws.uniform(0, *images.shape[1:]) < parameters[0]
    return torch.where(is_hit, (draws.uniform(1, *images.shape[1:]) < 0.5).to(images.dtype), images)


def _speckle_noise(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    return images + images * parameters[0] * draws.normal(0, *images.shape[1:])


def _gaussian_blur(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    return image_filters.gaussian_filtered(images, parameters[0])


def _defocus_blur(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    return image_filters.filtered(images, image_filters.disk_taps(*parameters))


def _motion_blur(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    angle = (draws.uniform(0) - 0.5) * (math.pi / 2)
    return image_filters.motion_filtered(images, angle, int(parameters[0]), parameters[1])


def _zoom_blur(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    """Average enlargements in steps of 1 % up to the last one, and the image itself once more."""
    total, count = images, round(parameters[0] * 100)
    for step in range(count + 1):
        total = total + (image_filters.zoomed(images, 1 + step / 100) if step else images)
    return total / (count + 2)


def _brightness(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    """Raise the value of hue, saturation and value."""
    value = images.amax(dim=1, keepdim=True)
    raised = (value + parameters[0]).clamp(max=1)
    return torch.where(value > 0, images * (raised / value.clamp(min=1e-6)), raised)


def _contrast(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * parameters[0] + mean


def _saturate(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    """Scale and raise the saturation of hue, saturation and value; grey pixels, which have no hue, stay grey."""
    value = images.amax(dim=1, keepdim=True)
    saturation = (value - images.amin(dim=1, keepdim=True)) / value.clamp(min=1e-6)
    changed = (saturation * parameters[0] + parameters[1]).clamp(0, 1)
    factor = torch.where(saturation > 0, changed / saturation.clamp(min=1e-6), torch.ones_like(saturation))
    return value - (value - images) * factor


def _fog(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    """Add clouds, and scale down so that the brightest value stays."""
    amount, decay = parameters
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    clouds = _clouds(draws, images.shape[-1], decay)
    return (images + amount * clouds) * brightest / (brightest + amount)


def _clouds(draws: CounterDraws, side: int, decay: float, stream: int = 0) -> Tensor:
    """Return noise on scales from the whole image to two pixels, each `decay` times weaker; (B, 1, side, side), 0 to 1.

    The published program uses the diamond-square algorithm for the same spectrum.
    """
    total = torch.zeros(len(draws.index), 1, side, side, device=draws.index.device)
    weight, cells, octave = 1.0, 2, 0
    while cells <= side // 2:
        grid = draws.uniform(stream + octave, 1, cells + 1, cells + 1)
        total = total + weight * F.interpolate(grid, size=(side, side), mode="bilinear", align_corners=True)
        weight, cells, octave = weight / decay, cells * 2, octave + 1
    low, high = total.amin(dim=(1, 2, 3), keepdim=True), total.amax(dim=(1, 2, 3), keepdim=True)
    return (total - low) / (high - low).clamp(min=1e-6)


def _frost(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    """Lay ice over images: bright ridges between cells of noise, in place of the published photographs of ice."""
    keep, amount = parameters
    ridges = 1 - (2 * _clouds(draws, images.shape[-1], 1.6) - 1).abs()
    colour = torch.tensor(FROST_COLOUR, device=images.device).reshape(1, 3, 1, 1)
    return keep * images + amount * (0.35 + 0.65 * ridges * ridges) * colour


def _snow(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    """Whiten images and add flakes that fall: noise above a threshold, blurred along a line."""
    mean, deviation, zoom, threshold, radius, sigma, keep = parameters
    side = images.shape[-1]
    flakes = image_filters.zoomed(mean + deviation * draws.normal(0, 1, side, side), zoom)
    flakes = torch.where(flakes < threshold, torch.zeros_like(flakes), flakes).clamp(0, 1)
    angle = (draws.uniform(9) + 0.5) * (math.pi / 2)
    flakes = image_filters.motion_filtered(flakes, angle, int(radius), sigma)
    weights = torch.tensor(GREY, device=images.device).reshape(1, 3, 1, 1)
    grey = (images * weights).sum(dim=1, keepdim=True)
    white = torch.maximum(images, grey * 1.5 + 0.5)
    return keep * images + (1 - keep) * white + flakes + flakes.flip(2, 3)


def _pixelate(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    return image_filters.pixelated(images, int(images.shape[-1] * parameters[0]))


def _jpeg(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:  # noqa: ARG001
    return jpeg.compressed(images, int(parameters[0]))


def _elastic(images: Tensor, parameters: Parameters, draws: CounterDraws) -> Tensor:
    """Displace pixels by a smooth random field with a root mean square of `parameters[0]` pixels in each direction."""
    side = images.shape[-1]
    field = image_filters.gaussian_filtered(draws.normal(0, 2, side, side), parameters[1])
    field = field / field.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    return image_filters.displaced(images, parameters[0] * field[:, 0], parameters[0] * field[:, 1])


CORRUPTIONS: dict[str, Corruption] = {
    each.name: each
    for each in (
        Corruption(
            name="gaussian_noise", kind="noise", apply=_gaussian_noise, meaning="deviation", neutral=(0.0,),
            levels=((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
        ),
        Corruption(
            name="shot_noise", kind="noise", apply=_shot_noise, meaning="photons at white",
            levels=((500.0,), (250.0,), (100.0,), (75.0,), (50.0,)),
        ),
        Corruption(
            name="impulse_noise", kind="noise", apply=_impulse_noise, meaning="share of values", neutral=(0.0,),
            levels=((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
        ),
        Corruption(
            name="speckle_noise", kind="noise", apply=_speckle_noise, meaning="relative deviation", neutral=(0.0,),
            levels=((0.06,), (0.10,), (0.12,), (0.16,), (0.20,)),
        ),
        Corruption(
            name="gaussian_blur", kind="blur", apply=_gaussian_blur, meaning="sigma in pixels", neutral=(0.0,),
            levels=((0.4,), (0.6,), (0.7,), (0.8,), (1.0,)),
        ),
        Corruption(
            name="defocus_blur", kind="blur", apply=_defocus_blur, meaning="radius and smoothing in pixels",
            neutral=(0.0, 0.05), levels=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        ),
        Corruption(
            name="motion_blur", kind="blur", apply=_motion_blur, meaning="radius and sigma in pixels",
            neutral=(0.0, 1.0), levels=((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
        ),
        Corruption(
            name="zoom_blur", kind="blur", apply=_zoom_blur, meaning="largest enlargement", neutral=(0.0,),
            levels=((0.05,), (0.10,), (0.15,), (0.20,), (0.25,)),
        ),
        Corruption(
            name="snow", kind="weather", apply=_snow,
            meaning="mean, deviation, zoom, threshold, radius, sigma, share of the image", published=False,
            levels=(
                (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.55, 10, 4, 0.92), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
            ),
        ),
        Corruption(
            name="frost", kind="weather", apply=_frost, meaning="weight of the image, weight of the ice",
            neutral=(1.0, 0.0), levels=((1.0, 0.15), (1.0, 0.25), (0.95, 0.35), (0.9, 0.45), (0.85, 0.55)),
            published=False,
        ),
        Corruption(
            name="fog", kind="weather", apply=_fog, meaning="amount, decay per octave", neutral=(0.0, 2.0),
            levels=((0.2, 3), (0.5, 3), (0.75, 2.5), (1.0, 2), (1.5, 1.75)),
        ),
        Corruption(
            name="brightness", kind="weather", apply=_brightness, meaning="added to the value of HSV", neutral=(0.0,),
            levels=((0.05,), (0.10,), (0.15,), (0.20,), (0.30,)),
        ),
        Corruption(
            name="contrast", kind="digital", apply=_contrast, meaning="share of the contrast", neutral=(1.0,),
            levels=((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
        ),
        Corruption(
            name="saturate", kind="digital", apply=_saturate, meaning="factor and addend of the saturation of HSV",
            neutral=(1.0, 0.0), levels=((1.5, 0.0), (2.0, 0.0), (2.0, 0.1), (2.5, 0.1), (2.5, 0.2)), published=False,
        ),
        Corruption(
            name="elastic", kind="digital", apply=_elastic, neutral=(0.0, 2.0), published=False,
            meaning="displacement and its smoothness in pixels",
            levels=((0.3, 2.0), (0.6, 2.0), (0.9, 2.0), (1.2, 2.0), (1.6, 2.0)),
        ),
        Corruption(
            name="pixelate", kind="digital", apply=_pixelate, meaning="share of the resolution", neutral=(1.0,),
            levels=((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
        ),
        Corruption(
            name="jpeg", kind="digital", apply=_jpeg, meaning="quality",
            levels=((80,), (65,), (58,), (50,), (40,)),
        ),
    )
}  # fmt: skip
"""All corruptions by name."""

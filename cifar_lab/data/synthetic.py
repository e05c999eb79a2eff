"""Images that need no file: ten classes of wallpaper, drawn the same, byte for byte, on every machine.

Only the pattern tells the classes apart. Its scale, phase and tilt, both colours, the light and the grain are drawn
anew for each image, so that a pixel by itself says next to nothing: a linear classifier stays near chance, where a
small convolutional network learns most patterns in two short epochs. A mirror image never changes its class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_lab.data.dataset import Dataset, Images, content_hash

SIDE = 32
TRAIN_PER_CLASS = 280
MEAN=True
TEST_PER_CLASS = 100
SEED = 10

PERIOD = (6.0, 9.0)
"""Side of a pattern's cell, in pixels."""
TILT = 0.12
"""Greatest slope of a pattern's rows."""
CONTRAST = (0.6, 1.0)
"""How far ink stands out from paper; 1: as far as their two colours do."""
LIGHT = 0.008
"""Greatest change of brightness from one pixel to the next, by uneven lighting; 1 is black to white."""
SWAP = 0.0
GRAIN = 0.1
"""Greatest error of a pixel; the errors are triangular about 0."""

# The same bytes everywhere ask for arithmetic that IEEE 754 rounds exactly, element by element: + - * / sqrt floor
# min max, and no sin, exp or sums. All chance comes from `Generator.random`, which only scales the bits of PCG64.
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the pixels of N images lie in their patterns, in cells: whole numbers are the cells' middles."""

    u: Floats
    """(N, 32, 32), across."""
    v: Floats
    """(N, 32, 32), down."""
    hand: Floats
    """(N, 1, 1), -1 or 1: which way a slanted pattern leans. Both are one class, as flips require."""


# A pattern is a height over the wall, in cells: ink where it is positive, paper where it is negative, and as steep
# as 1 where it crosses 0, so that the edge between them can be drawn one pixel wide at any scale.


def bands(at: Place) -> Floats:
    return _fold(at.v) - 0.25


def pinstripes(at: Place) -> Floats:
    return _fold(at.u) - 0.25


def diagonals(at: Place) -> Floats:
    return _fold((at.u + at.hand * at.v) * 0.75) - 0.25


def checks(at: Place) -> Floats:
    return 4 * (_fold(at.u * 0.5) - 0.25) * (_fold(at.v * 0.5) - 0.25)


def diamonds(at: Place) -> Floats:
    return 0.4 - _fold(at.u * 0.75) - _fold(at.v * 0.5)


def dots(at: Place) -> Floats:
    return _length(_fold(at.u * 0.75), _fold(at.v * 0.75)) - 0.29


def rings(at: Place) -> Floats:
    return _fold(_length(at.u, at.v)) - 0.25


def bricks(at: Place) -> Floats:
    shift = 0.5 * np.floor(at.v)
    return 0.14 - np.minimum(_fold(at.v), 1.33 * _fold(at.u * 0.75 + shift))


def zigzags(at: Place) -> Floats:
    return _fold(at.v + 1.6 * _fold(at.u * 0.5)) - 0.25


def crosses(at: Place) -> Floats:
    across, down = _fold(at.u), _fold(at.v)
    return np.minimum(0.11 - np.minimum(across, down), 0.4 - np.maximum(across, down))


PATTERNS: tuple[Callable[[Place], Floats], ...] = (
    bands, pinstripes, diagonals, checks, diamonds, dots, rings, bricks, zigzags, crosses
)  # fmt: skip
"""The classes, named after these functions."""


def generate() -> Dataset:
    """The whole data set, balanced, its classes taking turns; 2,500 images to train on and 1,000 to test."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    classes = tuple(pattern.__name__ for pattern in PATTERNS)
    train_images, test_images = (_images(rng, per_class) for per_class in (TRAIN_PER_CLASS, TEST_PER_CLASS))
    train_labels, test_labels = (
        np.tile(np.arange(len(classes), dtype=np.int64), per_class) for per_class in (TRAIN_PER_CLASS, TEST_PER_CLASS)
    )
    return Dataset(
        name="synthetic, not CIFAR-10",
        kind="synthetic",
        classes=classes,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        hash=content_hash(classes, train_images, train_labels, test_images, test_labels),
    )


def _images(rng: np.random.Generator, per_class: int) -> Images:
    drawn = [_paint(rng, pattern, per_class) for pattern in PATTERNS]
    return np.stack(drawn, axis=1).reshape(-1, SIDE, SIDE, 3)


def _paint(rng: np.random.Generator, pattern: Callable[[Place], Floats], n: int) -> Images:
    """(n, 32, 32, 3), `n` images of one class."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2  # (32, 32), pixels from the middle
    period, hand = _between(rng, *PERIOD, n), np.where(rng.random((n, 1, 1)) < 0.5, -1.0, 1.0)
    ink = np.clip(0.5 + period * pattern(_place(rng, x, y, period, hand)), 0, 1)

    dark, light = _colour(rng, 0.1, 0.55, n), _colour(rng, 0.65, 1.0, n)  # (n, 1, 1, 3)
    swapped = rng.random((n, 1, 1, 1)) < SWAP
    middle, reach = (dark + light) / 2, np.where(swapped, dark - light, light - dark) * _between(rng, *CONTRAST, n)[..., None]
    lit = _between(rng, -LIGHT, LIGHT, n) * x + _between(rng, -LIGHT, LIGHT, n) * y
    grain = GRAIN * (rng.random((n, SIDE, SIDE, 3)) - rng.random((n, SIDE, SIDE, 3)))
    painted = middle + reach * (ink - (ink.mean((1,2),keepdims=True) if MEAN else 0.5))[..., None] + lit[..., None] + grain
    return np.floor(np.clip(painted, 0, 1) * 255 + 0.5).astype(np.uint8)


def _place(rng, x, y, period, hand) -> Place:
    n = len(period)
    tilt = _between(rng, -TILT, TILT, n)
    return Place(u=(x - tilt * y) / period + _between(rng, -2, 2, n), v=(y + tilt * x) / period + _between(rng, -2, 2, n), hand=hand)


def _colour(rng: np.random.Generator, darkest: float, brightest: float, n: int) -> Floats:
    """(n, 1, 1, 3), RGB of any hue, muted."""
    hue = rng.random((n, 1, 1, 1)) + np.arange(3) / 3
    value, saturation = _between(rng, darkest, brightest, n)[..., None], _between(rng, 0.1, 0.7, n)[..., None]
    return value * (1 - saturation * np.clip(2 - 6 * _fold(hue), 0, 1))


def _between(rng: np.random.Generator, low: float, high: float, n: int) -> Floats:
    """(n, 1, 1), one number an image."""
    return low + (high - low) * rng.random((n, 1, 1))


def _fold(t: Floats) -> Floats:
    """Distance to the nearest whole number: a triangle wave of period 1, between 0 and 0.5."""
    return np.abs(t - np.floor(t + 0.5))


def _length(a: Floats, b: Floats) -> Floats:
    return np.sqrt(a * a + b * b)

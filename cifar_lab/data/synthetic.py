"""Synthetic images: ten classes of patterns, generated identically, byte for byte, on every machine.

Only the pattern distinguishes the classes. Scale, phase and tilt, colours, contrast, light and grain are random for
each image, so that single pixels are nearly uninformative: a linear classifier has low accuracy, while a small
convolutional network learns most patterns in two short epochs. No flip changes a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_lab.data.dataset import Dataset, ImageArrays, Images, Labels

SIDE = 32
SEED = 10
TRAIN_PER_CLASS = 280
"""Training images per class. Without the 10 % of val, 20 batches of 128: after two epochs Lookahead (k = 5) is due."""
TEST_PER_CLASS = 100

PERIOD = (5.5, 9.0)
"""Pixels per unit of `PatternGrid`."""
TILT = 0.12
"""Maximum slope of a pattern's rows."""
CONTRAST = (0.6, 1.0)
"""Contrast between ink and paper, as a share of the difference between their colours."""
LIGHT = 0.006
"""Maximum change of brightness per pixel by uneven light; black is 0, white 1."""
GRAIN = 0.08
"""Maximum deviation of one pixel in one channel, on the same scale."""

# Identical bytes require arithmetic that IEEE 754 rounds exactly, element by element: + - * / sqrt floor and
# comparisons, but no sin, exp or sums. All random numbers are `Generator.random`: the bits of PCG64, scaled.
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PatternGrid:
    """Coordinates of the pixels of N images in a pattern."""

    u: Floats
    """(N, 32, 32), horizontal."""
    v: Floats
    """(N, 32, 32), vertical."""
    hand: Floats
    """(N, 1, 1), -1 or 1: direction of a slanted pattern. Both are one class, as flips must not change it."""


Pattern = Callable[[PatternGrid], Floats]
"""Function that returns a height, (N, 32, 32): ink where it is positive, paper where negative.

Its slope is about 1, so that height times period is the distance to the edge in pixels, and edges are smooth. All but
the rings have a period of 4 units in both directions, so that shifts over 4 units make every phase equally likely.
"""


def bands(at: PatternGrid) -> Floats:
    return _fold(at.v) - 0.25


def pinstripes(at: PatternGrid) -> Floats:
    return _fold(at.u) - 0.25


def diagonals(at: PatternGrid) -> Floats:
    return _fold(0.75 * (at.u + at.hand * at.v)) - 0.25


def checks(at: PatternGrid) -> Floats:
    across, down = _fold(0.5 * at.u) - 0.25, _fold(0.5 * at.v) - 0.25
    return 2 * np.maximum(np.minimum(across, down), -np.maximum(across, down))


def diamonds(at: PatternGrid) -> Floats:
    return 0.4 - _fold(0.75 * at.u) - _fold(0.5 * at.v)


def dots(at: PatternGrid) -> Floats:
    return _length(_fold(0.75 * at.u), _fold(0.75 * at.v)) - 0.28


def rings(at: PatternGrid) -> Floats:
    return _fold(_length(at.u, at.v)) - 0.25


def bricks(at: PatternGrid) -> Floats:
    every_second_row = 0.5 * np.floor(at.v + 0.5)
    return 0.14 - np.minimum(0.5 - _fold(at.v), 1.33 * _fold(0.75 * at.u + every_second_row))


def zigzags(at: PatternGrid) -> Floats:
    return _fold(at.v + 1.5 * _fold(0.5 * at.u)) - 0.25


def crosses(at: PatternGrid) -> Floats:
    across, down = _fold(at.u), _fold(at.v)
    return np.minimum(0.12 - np.minimum(across, down), 0.4 - np.maximum(across, down))


PATTERNS: tuple[Pattern, ...] = (
    *(bands, pinstripes, diagonals, checks, diamonds),
    *(dots, rings, bricks, zigzags, crosses),
)
"""Patterns of the classes, whose names are those of the functions."""


def generate() -> Dataset:
    """Return the whole data set, generated in about a second: 2,800 training and 1,000 test images, classes in turn."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    classes = tuple(pattern.__name__ for pattern in PATTERNS)
    arrays = ImageArrays(*_part(rng, TRAIN_PER_CLASS), *_part(rng, TEST_PER_CLASS))
    return Dataset.of("synthetic, not CIFAR-10", "synthetic", classes, arrays)


def _part(rng: np.random.Generator, per_class: int) -> tuple[Images, Labels]:
    by_class = [_paper(rng, pattern, per_class) for pattern in PATTERNS]
    images = np.stack(by_class, axis=1).reshape(-1, SIDE, SIDE, 3)
    return images, np.tile(np.arange(len(PATTERNS), dtype=np.int64), per_class)


def _paper(rng: np.random.Generator, pattern: Pattern, n: int) -> Images:
    """Return `n` images of one class, (n, 32, 32, 3)."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2  # pixels from the centre
    period, tilt = _between(rng, *PERIOD, n), _between(rng, -TILT, TILT, n)
    place = PatternGrid(
        u=(x - tilt * y) / period + _between(rng, -2, 2, n),
        v=(y + tilt * x) / period + _between(rng, -2, 2, n),
        hand=np.where(_between(rng, -1, 1, n) < 0, -1.0, 1.0),
    )
    edges = np.clip(pattern(place) * period, -0.5, 0.5)  # -0.5 is paper, 0.5 ink, and 0 halfway
    ink = (edges * _between(rng, *CONTRAST, n))[..., None]  # (n, 32, 32, 1)
    light = _between(rng, -LIGHT, LIGHT, n) * x + _between(rng, -LIGHT, LIGHT, n) * y
    grain = rng.random((n, SIDE, SIDE, 3))
    dark, bright = _colour(rng, 0.1, 0.55, n), _colour(rng, 0.65, 1.0, n)

    # In place, as each step would otherwise allocate memory.
    grain *= 2
    grain -= 1
    grain *= GRAIN
    image = (bright - dark) * ink
    image += (dark + bright) / 2
    image += light[..., None]
    image += grain
    np.clip(image, 0, 1, out=image)
    image *= 255
    image += 0.5
    return image.astype(np.uint8)


def _colour(rng: np.random.Generator, darkest: float, brightest: float, n: int) -> Floats:
    """Return `n` colours of any hue and medium saturation, (n, 1, 1, 3)."""
    value, saturation = _between(rng, darkest, brightest, n)[..., None], _between(rng, 0.1, 0.7, n)[..., None]
    hue = _between(rng, 0, 1, n)[..., None] + np.arange(3) / 3
    return value * (1 - saturation * np.clip(2 - 6 * _fold(hue), 0, 1))


def _between(rng: np.random.Generator, low: float, high: float, n: int) -> Floats:
    """Return one random number for each of `n` images, (n, 1, 1)."""
    return low + (high - low) * rng.random((n, 1, 1))


def _fold(t: Floats) -> Floats:
    """Return the distance to the nearest integer: a triangle wave between 0 and 0.5."""
    return np.abs(t - np.floor(t + 0.5))


def _length(a: Floats, b: Floats) -> Floats:
    return np.sqrt(a * a + b * b)

"""Comparison of two networks on the same images; it holds for this pair of networks, not for their recipes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Disagreement of networks a and b on `images` test images; accuracies and intervals are fractions.

    `only_a` and `only_b` count the images that only that network classified correctly.
    """

    images: int
    only_a: int
    only_b: int
    difference: float
    """Accuracy of b minus accuracy of a."""
    interval: tuple[float, float]
    """95 % percentile interval of `difference` over images, by paired bootstrap.

    Where the two differ on no image there is nothing to draw from: then it is ± the largest share of images on which
    they could differ and still show none in this sample with probability 5 %, about 3 / images.
    """
    p_value: float
    """p-value of the exact McNemar test."""


def compare_networks(right_a: np.ndarray, right_b: np.ndarray) -> Disagreement:
    """Compare two networks by their correct predictions: (N,) bool each, N ≥ 1, the same images in the same order.

    McNemar (1947), exact: of the images on which the two differ, half are expected to favour either. The bootstrap
    draws images with replacement and keeps both predictions of an image together. Only three outcomes count, so it
    draws their numbers (multinomial), which is the same distribution.
    """
    images = len(right_a)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = stats.binomtest(only_b, only_a + only_b).pvalue if only_a + only_b else 1.0
    shares = [only_a / images, only_b / images, 1 - (only_a + only_b) / images]
    drawn = np.random.default_rng(0).multinomial(images, shares, size=RESAMPLES)
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / images, [0.025, 0.975])
    if not only_a + only_b:
        high = 1 - 0.05 ** (1 / images)  # the rule of three: Hanley and Lippman-Hand (1983), JAMA 249
        low = -high
    return Disagreement(
        images=images, only_a=only_a, only_b=only_b, difference=(only_b - only_a) / images,
        interval=(float(low), float(high)), p_value=float(p),
    )  # fmt: skip

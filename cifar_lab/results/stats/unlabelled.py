"""Estimates of the accuracy on images without labels, from validation images with labels and from agreement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from cifar_lab.results.stats.paired import Interval

Floats = NDArray[np.floating]
RESAMPLES = 1_000
LEVEL = 0.95
LARGEST_PART = 1_000
"""Images that are assigned together; time and memory grow faster than their number."""
FEWEST_MODELS = 3
"""Models that a line through agreements needs."""


@dataclass(frozen=True, kw_only=True)
class ThresholdEstimate:
    """Accuracy estimated by average thresholded confidence, as a fraction."""

    accuracy: float
    interval: Interval
    """95 % percentile interval over images of both sets; the error of the method itself is not in it."""
    threshold: float | None
    """Score from which a prediction counts as correct; None where no validation image is predicted correctly."""


@dataclass(frozen=True, kw_only=True)
class TransportEstimate:
    """Accuracy estimated by optimal transport of probabilities to labels, as a fraction."""

    accuracy: float
    interval: Interval
    """95 % percentile interval over images; the error of the method itself is not in it."""


@dataclass(frozen=True, kw_only=True)
class LineEstimate:
    """Accuracies estimated from the line through agreements, by model, as fractions."""

    accuracies: dict[str, float]
    correlation: float | None
    """Pearson correlation of the agreements on the two sets, after the probit transform; None for equal values."""


def negative_entropy(probabilities: Floats) -> Floats:
    """Return Σ p log p of each row, (N,): 0 for a certain prediction, lower for others."""
    clipped = np.clip(probabilities.astype(np.float64), 1e-12, 1.0)
    return np.asarray((clipped * np.log(clipped)).sum(axis=1))


def average_thresholded_confidence(
    val_scores: Floats, val_correct: NDArray[np.bool_], scores: Floats, *, seed: int = 0
) -> ThresholdEstimate:
    """Estimate an accuracy as the share of images whose score is above a threshold found on validation images.

    The threshold is the one above which lie as many validation images as are predicted correctly. Garg et al. (2022),
    "Leveraging unlabeled data to predict out-of-distribution performance" (ATC).

    Args:
        val_scores: scores of the validation images, (V,), higher for more certain predictions.
        val_correct: (V,).
        scores: scores of the images without labels, (N,).
        seed: seed of the bootstrap.
    """
    ordered = np.sort(scores)
    threshold = _threshold(val_scores, val_correct)
    rng = np.random.default_rng(seed)
    drawn = np.empty(RESAMPLES)
    for at in range(RESAMPLES):
        chosen = rng.integers(0, len(val_scores), len(val_scores))
        share = _share_above(ordered, _threshold(val_scores[chosen], val_correct[chosen]))
        drawn[at] = rng.binomial(len(scores), share) / len(scores)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    accuracy = _share_above(ordered, threshold)
    return ThresholdEstimate(accuracy=accuracy, interval=(float(low), float(high)), threshold=threshold)


def _threshold(scores: Floats, is_correct: NDArray[np.bool_]) -> float | None:
    """Return the score that as many images reach as are correct; None if none is."""
    count = int(is_correct.sum())
    if not count:
        return None
    return float(np.partition(scores, len(scores) - count)[len(scores) - count])


def _share_above(ordered: Floats, threshold: float | None) -> float:
    if threshold is None:
        return 0.0
    return 1 - float(np.searchsorted(ordered, threshold, side="left")) / len(ordered)


def confidence_by_transport(
    probabilities: Floats, class_shares: NDArray[np.floating], *, seed: int = 0
) -> TransportEstimate:
    """Estimate an accuracy as the mean probability of labels that are assigned in known proportions.

    Each image is assigned one class so that the classes come out in the given shares and the sum of the assigned
    probabilities is largest. A network that predicts one class for all images is so found out, however confident it is.
    Lu et al. (2023), "Characterizing out-of-distribution error via optimal transport" (COT). The images are assigned
    in parts of `LARGEST_PART`, drawn at random.

    Args:
        probabilities: of the images without labels, (N, classes).
        class_shares: expected shares of the classes, (classes,), which sum to 1; those of the validation images.
        seed: seed of the parts and of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(probabilities))
    parts = np.array_split(order, math.ceil(len(order) / LARGEST_PART))
    assigned = np.concatenate([_assigned(probabilities[part], class_shares) for part in parts])
    drawn = rng.choice(assigned, size=(RESAMPLES, len(assigned))).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return TransportEstimate(accuracy=float(assigned.mean()), interval=(float(low), float(high)))


def _assigned(probabilities: Floats, class_shares: NDArray[np.floating]) -> Floats:
    """Return the probability of the class that each image of one part is assigned, (N,)."""
    exact = class_shares * len(probabilities)
    counts = np.floor(exact).astype(np.int64)
    for place in np.argsort(counts - exact, kind="stable")[: len(probabilities) - counts.sum()]:
        counts[place] += 1
    columns = np.repeat(np.arange(len(class_shares)), counts)
    rows, chosen = optimize.linear_sum_assignment(probabilities[:, columns], maximize=True)
    return np.asarray(probabilities[rows, columns[chosen]], dtype=np.float64)


def mean_agreement(answers: Sequence[NDArray[np.integer]]) -> float | None:
    """Return the mean share of images on which two models agree; None for one model.

    For trainings of one recipe with several seeds it estimates their accuracy, as far as they are calibrated as an
    ensemble: Jiang, Nagarajan, Baek and Kolter (2022), "Assessing generalization of SGD via disagreement".
    """
    shares = [float((answers[a] == answers[b]).mean()) for a, b in combinations(range(len(answers)), 2)]
    return float(np.mean(shares)) if shares else None


def agreement_interval(answers: Sequence[NDArray[np.integer]], *, seed: int = 0) -> Interval | None:
    """Return the 95 % percentile interval of `mean_agreement` over images; None for one model."""
    pairs = list(combinations(range(len(answers)), 2))
    if not pairs:
        return None
    by_image = np.mean([answers[a] == answers[b] for a, b in pairs], axis=0)
    values, counts = np.unique(by_image, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(by_image), counts / len(by_image), size=RESAMPLES)
    low, high = np.quantile(draws @ values / len(by_image), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def agreement_on_the_line(
    val_accuracy: Mapping[str, float],
    val_answers: Mapping[str, NDArray[np.integer]],
    answers: Mapping[str, NDArray[np.integer]],
) -> LineEstimate | None:
    """Estimate accuracies from the line through the agreements of all pairs of models on both sets.

    After the probit transform, agreement on shifted images is linear in that on the original ones, and accuracy lies on
    the same line: Baek, Jiang, Raghunathan and Kolter (2022), "Agreement-on-the-line" (ALine-D). None for fewer than
    three models, or agreements that are all equal on the validation images.
    """
    names = list(val_accuracy)
    if len(names) < FEWEST_MODELS:
        return None
    pairs = list(combinations(range(len(names)), 2))
    near = np.array([_probit(_agreement(val_answers, names, pair)) for pair in pairs])
    far = np.array([_probit(_agreement(answers, names, pair)) for pair in pairs])
    if np.ptp(near) < 1e-9:
        return None
    slope = float(np.cov(near, far, ddof=0)[0, 1] / near.var())
    accuracy = np.array([_probit(val_accuracy[name]) for name in names])
    halves, targets = np.zeros((len(pairs), len(names))), np.empty(len(pairs))
    for row, (a, b) in enumerate(pairs):
        halves[row, [a, b]] = 0.5
        targets[row] = far[row] + slope * (halves[row] @ accuracy - near[row])
    solution = np.linalg.lstsq(halves, targets, rcond=None)[0]
    estimates = {name: float(value) for name, value in zip(names, stats.norm.cdf(solution), strict=True)}
    correlation = float(np.corrcoef(near, far)[0, 1]) if np.ptp(far) > 1e-9 else None
    return LineEstimate(accuracies=estimates, correlation=correlation)


def _agreement(answers: Mapping[str, NDArray[np.integer]], names: Sequence[str], pair: tuple[int, int]) -> float:
    return float((answers[names[pair[0]]] == answers[names[pair[1]]]).mean())


def _probit(share: float) -> float:
    return float(stats.norm.ppf(min(max(share, 1e-4), 1 - 1e-4)))

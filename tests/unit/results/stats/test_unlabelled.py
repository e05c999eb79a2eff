"""Estimates without labels, on data whose labels are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cifar_lab.results.stats import unlabelled


def _scores(size: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and correctness of a network whose score decides, with some noise, whether it is correct."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(shift, 1, size)
    return scores, scores + rng.normal(0, 0.3, size) > 0


@pytest.mark.parametrize("shift", [1.0, 0.3, -0.5])
def test_a_threshold_from_val_gives_the_accuracy_on_shifted_images(shift: float) -> None:
    scores, is_correct = _scores(4000, 1.0, 0)
    far, far_correct = _scores(4000, shift, 1)
    found = unlabelled.average_thresholded_confidence(scores, is_correct, far)
    assert found.accuracy == pytest.approx(far_correct.mean(), abs=0.04)
    low, high = found.interval
    assert low < found.accuracy < high < low + 0.06


def test_on_the_validation_images_themselves_the_estimate_is_their_accuracy() -> None:
    scores, is_correct = _scores(777, 0.5, 2)
    found = unlabelled.average_thresholded_confidence(scores, is_correct, scores)
    assert found.accuracy == pytest.approx(is_correct.mean())
    assert unlabelled.average_thresholded_confidence(scores, is_correct, scores) == found, "the bootstrap is seeded"


def test_a_network_that_is_never_right_is_estimated_at_zero() -> None:
    scores = np.arange(10.0)
    assert unlabelled.average_thresholded_confidence(scores, np.zeros(10, dtype=bool), scores).accuracy == 0.0


def test_the_interval_covers_the_accuracy_in_about_95_of_100_draws() -> None:
    hits = 0
    for seed in range(60):
        scores, is_correct = _scores(500, 1.0, 100 + seed)
        far, _ = _scores(500, 1.0, 500 + seed)
        low, high = unlabelled.average_thresholded_confidence(scores, is_correct, far).interval
        hits += low <= stats.norm.cdf(1 / np.hypot(1, 0.3)) <= high
    assert hits >= 52, "fewer has a chance below one in a thousand at 95 %"


def test_agreement_counts_pairs() -> None:
    a, b, c = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 0]), np.array([0, 0, 0, 0])
    assert unlabelled.mean_agreement([a, b, c]) == pytest.approx((3 / 4 + 1 / 4 + 2 / 4) / 3)
    assert unlabelled.mean_agreement([a]) is unlabelled.agreement_interval([a]) is None
    interval = unlabelled.agreement_interval([a, b, c])
    assert interval is not None
    assert interval[0] <= 0.5 <= interval[1]


def test_accuracies_on_the_line_are_found_where_the_line_holds() -> None:
    rng = np.random.default_rng(3)
    size, names = 60_000, ("a", "b", "c", "d")
    skill = dict(zip(names, (1.6, 1.3, 1.0, 0.8), strict=True))
    near, far, near_accuracy, far_accuracy = {}, {}, {}, {}
    hard, harder = rng.normal(0, 1, size), rng.normal(0.5, 1, size)
    for name in names:
        for kept, accuracy, difficulty in ((near, near_accuracy, hard), (far, far_accuracy, harder)):
            is_correct = skill[name] + rng.normal(0, 1, size) > difficulty
            kept[name] = np.where(is_correct, 0, rng.integers(1, 10, size))
            accuracy[name] = float(is_correct.mean())
    found = unlabelled.agreement_on_the_line(near_accuracy, near, far)
    assert found is not None
    assert found.correlation is not None
    assert found.correlation > 0.95
    for name in names:
        assert found.accuracies[name] == pytest.approx(far_accuracy[name], abs=0.03)
    assert near_accuracy["a"] - far_accuracy["a"] > 0.06, "there is a shift to be found"


def test_two_models_give_no_line() -> None:
    answers = {"a": np.array([0, 1]), "b": np.array([0, 0])}
    assert unlabelled.agreement_on_the_line({"a": 0.5, "b": 0.5}, answers, answers) is None


def test_transport_finds_out_a_network_that_is_sure_of_one_class() -> None:
    probabilities = np.full((400, 10), 0.01)
    probabilities[:, 3] = 0.91
    found = unlabelled.confidence_by_transport(probabilities, np.full(10, 0.1))
    assert found.accuracy == pytest.approx(0.1 * 0.91 + 0.9 * 0.01)


@pytest.mark.parametrize("size", [37, 1000, 2300])
def test_transport_of_calibrated_predictions_is_their_accuracy(size: int) -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(size) % 10
    logits = rng.normal(0, 1, (size, 10)) + 3 * np.eye(10)[labels]
    weights = np.exp(3 * logits)  # of normal noise of deviation 1, the exact posterior
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    found = unlabelled.confidence_by_transport(probabilities, np.full(10, 0.1))
    is_correct = probabilities.argmax(axis=1) == labels
    assert found.accuracy == pytest.approx(is_correct.mean(), abs=0.03 if size > 100 else 0.1)
    assert found.interval[0] < found.accuracy < found.interval[1]
    assert unlabelled.confidence_by_transport(probabilities, np.full(10, 0.1)) == found


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [2.0, 4.0, 8.0])
def test_transport_is_less_than_a_point_too_low_from_1000_images_on(deviation: float) -> None:
    rng = np.random.default_rng(0)
    logits = deviation * rng.normal(size=(100_000, 10))
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    accuracy = probabilities.max(axis=1).mean()  # of calibrated predictions

    def bias(images: int) -> float:
        drawn = (probabilities[rng.integers(0, len(probabilities), images)] for _ in range(40))
        found = [unlabelled.confidence_by_transport(each, np.full(10, 0.1)).accuracy for each in drawn]
        return float(np.mean(found) - accuracy)

    assert -0.01 < bias(1_000) < 0.002
    assert bias(100) < -0.01
    assert bias(10) < -0.05

"""Expected calibration error against a loop over the definition."""

from __future__ import annotations

import numpy as np
import pytest

from cifar_lab.results.stats.calibration import BINS, fit_temperature, measure_calibration


def test_the_error_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1.0, 2000).astype(np.float32)
    confidence[:3] = (1.0, 0.2, 1 / BINS)  # ends of bins belong to the bin below
    is_correct = rng.random(2000) < confidence**2
    found = measure_calibration(confidence, is_correct)
    total, counted = 0.0, 0
    for at, each in enumerate(found.bins):
        inside = (confidence.astype(float) > at / BINS + 1e-9) & (confidence.astype(float) <= (at + 1) / BINS + 1e-9)
        assert each.images == inside.sum()
        counted += int(inside.sum())
        if inside.any():
            assert each.accuracy == pytest.approx(is_correct[inside].mean())
            assert each.confidence == pytest.approx(confidence[inside].mean(), abs=1e-6)
            total += inside.sum() / 2000 * abs(is_correct[inside].mean() - confidence[inside].mean())
        else:
            assert each.accuracy is None
    assert counted == 2000
    assert found.error == pytest.approx(total, abs=1e-6)


def test_a_calibrated_network_has_a_small_error_and_a_certain_wrong_one_an_error_of_one() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.1, 1.0, 100_000)
    assert measure_calibration(confidence, rng.random(100_000) < confidence).error < 0.01
    assert measure_calibration(np.ones(5), np.zeros(5, dtype=bool)).error == 1.0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_scaled_calibrated_logits_is_found(temperature: float) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (20_000, 10))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((20_000, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(0, 9)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)

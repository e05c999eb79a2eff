"""Draws by position: uniform, independent, and the same in every batch."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from cifar_lab.inference.counter_draws import CounterDraws


def _draws(index: torch.Tensor, seed: int = 0, purpose: str = "test") -> CounterDraws:
    return CounterDraws(seed=seed, purpose=purpose, index=index)


def test_numbers_are_uniform_and_normal() -> None:
    draws = _draws(torch.arange(200))
    uniform, normal = draws.uniform(0, 500).numpy().ravel(), draws.normal(1, 500).numpy().ravel()
    assert 0 < uniform.min() < uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert stats.kstest(normal, "norm").pvalue > 1e-3


def test_images_elements_streams_seeds_and_purposes_are_uncorrelated() -> None:
    index = torch.arange(2000)
    base = _draws(index).uniform(0, 20).numpy()
    others = [
        _draws(index).uniform(1, 20), _draws(index, seed=1).uniform(0, 20),
        _draws(index, purpose="other").uniform(0, 20), _draws(index + 1).uniform(0, 20),
    ]  # fmt: skip
    for other in others:
        assert abs(np.corrcoef(base.ravel(), other.numpy().ravel())[0, 1]) < 0.03
    between = np.corrcoef(base.T) - np.eye(20)
    assert np.abs(between).max() < 0.12


def test_a_batch_does_not_change_the_draws() -> None:
    whole = _draws(torch.arange(10)).normal(3, 4, 5)
    assert whole.shape == (10, 4, 5)
    assert torch.equal(_draws(torch.tensor([7])).normal(3, 4, 5)[0], whole[7])

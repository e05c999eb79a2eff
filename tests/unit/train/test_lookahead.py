"""Lookahead, step by step against the paper's algorithm 1 in numpy."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cifar_lab.config import recipe
from cifar_lab.train.lookahead import Lookahead, interpolate

LR, MOMENTUM = 0.1, 0.9
CURVATURE = np.array([1.0, 5.0, 0.2])
START = np.array([1.0, -2.0, 3.0])


def paper(steps: int, k: int, alpha: float) -> list[NDArray[np.float64]]:
    """Fast weights after each step of SGD with momentum, on 0.5 * curvature * w², in Lookahead."""
    slow, fast, momentum, path = START.copy(), START.copy(), np.zeros(3), []
    for step in range(1, steps + 1):
        momentum = MOMENTUM * momentum + CURVATURE * fast
        fast = fast - LR * momentum
        if step % k == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow.copy()
        path.append(fast)
    return path


class Run:
    """The same training with torch's SGD and ours around it, on two parameters."""

    def __init__(self, k: int = 5, alpha: float = 0.5) -> None:
        self.weights = [torch.nn.Parameter(torch.tensor(part)) for part in (START[:1], START[1:])]
        self.optimizer = torch.optim.SGD(self.weights, lr=LR, momentum=MOMENTUM)
        self.lookahead = Lookahead(self.weights, recipe.LookaheadConfig(k=k, alpha=alpha))

    def step(self) -> NDArray[np.float64]:
        for weight, curvature in zip(self.weights, (CURVATURE[:1], CURVATURE[1:]), strict=True):
            weight.grad = torch.tensor(curvature) * weight.detach()
        self.optimizer.step()
        self.lookahead.step()
        return np.concatenate([weight.detach().numpy().copy() for weight in self.weights])

    def save(self) -> bytes:
        file = io.BytesIO()
        torch.save([self.weights, self.optimizer.state_dict(), self.lookahead.state_dict()], file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        weights, optimizer, lookahead = torch.load(io.BytesIO(saved), weights_only=True)
        for mine, theirs in zip(self.weights, weights, strict=True):
            mine.data.copy_(theirs)
        self.optimizer.load_state_dict(optimizer)
        self.lookahead.load_state_dict(lookahead)


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.5), (1, 0.5), (3, 0.8), (4, 1.0)])
def test_the_fast_weights_are_the_papers_after_each_step(k: int, alpha: float) -> None:
    run = Run(k, alpha)
    for expected in paper(17, k, alpha):
        assert_allclose(run.step(), expected, rtol=1e-12)


@pytest.mark.parametrize("saved_after", [3, 5, 7])
def test_a_run_goes_on_from_its_state_as_if_never_stopped(saved_after: int) -> None:
    first, second = Run(), Run()
    for _ in range(saved_after):
        first.step()
    second.load(first.save())
    for expected in paper(17, 5, 0.5)[saved_after:]:
        assert_allclose(second.step(), expected, rtol=1e-12)


def test_loading_copies_the_tensors() -> None:
    first, second = Run(k=1), Run(k=1)
    second.lookahead.load_state_dict(first.lookahead.state_dict())
    first.step()
    assert all((slow == part).all() for slow, part in zip(slow_weights(second), (START[:1], START[1:]), strict=True))


def slow_weights(run: Run) -> list[Any]:
    return [slow.numpy() for slow in run.lookahead.state_dict()["slow"]]


def test_interpolate_moves_slow_by_alpha_and_fast_to_slow_in_place() -> None:
    slow, fast = [torch.tensor([0.0, 4.0])], [torch.nn.Parameter(torch.tensor([1.0, 0.0]))]
    interpolate(slow, list(fast), 0.25)
    assert slow[0].tolist() == [0.25, 3.0]
    assert fast[0].tolist() == [0.25, 3.0]


def test_no_value_is_read_back_from_the_device() -> None:
    """Tensors on the meta device have no values: whoever waits for one there fails."""
    lookahead = Lookahead([torch.zeros(3, device="meta")], recipe.LookaheadConfig(k=1))
    lookahead.step()
    assert lookahead.state_dict()["slow"][0].is_meta

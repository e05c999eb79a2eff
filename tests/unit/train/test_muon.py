"""Muon, step by step against torch's for matrices and torch's SGD for the rest."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from cifar_lab.train.muon import Muon, orthogonalise

LR, MOMENTUM, DECAY = 0.05, 0.9, 0.1
SHAPES = [(6, 10), (10, 6), (8, 8), (1, 5)]


def weights(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def set_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    for gradient, parameter in zip(weights(*(p.shape for p in parameters), seed=step), parameters, strict=True):
        parameter.grad = gradient.detach()


def muon(matrices: list[torch.nn.Parameter], others: list[torch.nn.Parameter]) -> Muon:
    return Muon(matrices, others, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)


def torchs_muon(matrices: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Muon(matrices, lr=LR, momentum=MOMENTUM, weight_decay=DECAY, adjust_lr_fn="original", ns_steps=5)


# The orthogonal matrix


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalise_comes_near_to_u_v_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    matrix = weights(shape)[0].detach()
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix)
    singular = torch.linalg.svdvals(result)
    assert singular.max() < 1.25
    assert singular.quantile(0.1) > 0.6
    alignment = (result * (u @ v)).sum() / result.norm() / (u @ v).norm()
    assert alignment > 0.97


def test_orthogonalise_applies_jordans_quintic_to_each_singular_value() -> None:
    matrix = weights((12, 30))[0].detach().double()
    u, s, v = (part.numpy() for part in torch.linalg.svd(matrix, full_matrices=False))
    s = s / np.linalg.norm(s)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert_allclose(orthogonalise(matrix).numpy(), u @ np.diag(s) @ v, rtol=1e-9, atol=1e-9)


def test_the_scale_of_a_matrix_does_not_matter() -> None:
    matrix = weights((6, 10))[0].detach()
    torch.testing.assert_close(orthogonalise(1e-3 * matrix), orthogonalise(1e3 * matrix), rtol=1e-3, atol=1e-3)


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert orthogonalise(torch.zeros(3, 4)).equal(torch.zeros(3, 4))


# The optimizer


def test_matrices_move_as_in_torchs_muon_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "bfloat16", Tensor.clone)  # torch's Newton–Schulz rounds to bfloat16
    monkeypatch.setattr(torch, "bfloat16", torch.float32)  # so does that of torch 2.15, in other words
    ours, theirs = weights(*SHAPES), weights(*SHAPES)
    our_optimizer, their_optimizer = muon(ours, []), torchs_muon(theirs)
    for step in range(1, 13):
        for parameters, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            set_gradients(parameters, step)
            optimizer.step()
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_in_bfloat16_torchs_muon_goes_nearly_the_same_way() -> None:
    ours, theirs = weights(*SHAPES), weights(*SHAPES)
    our_optimizer, their_optimizer = muon(ours, []), torchs_muon(theirs)
    for parameters, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
        set_gradients(parameters, 1)
        optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0.05 * LR)


def test_a_convolution_moves_as_the_matrix_of_its_flattened_filters() -> None:
    (matrix,) = weights((8, 4 * 3 * 3))
    convolution = torch.nn.Parameter(matrix.detach().clone().view(8, 4, 3, 3))
    last = torch.nn.Parameter(convolution.detach().clone(memory_format=torch.channels_last))
    optimizer = muon([matrix, convolution, last], [])
    for step in range(1, 5):
        set_gradients([matrix], step)
        assert matrix.grad is not None
        convolution.grad = matrix.grad.view(8, 4, 3, 3)
        last.grad = convolution.grad.contiguous(memory_format=torch.channels_last)
        optimizer.step()
    torch.testing.assert_close(convolution.flatten(1), matrix)
    torch.testing.assert_close(last, convolution)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_the_others_move_as_in_torchs_sgd_with_nesterov_momentum_and_decoupled_decay() -> None:
    ours, theirs = weights((5,), (3, 4)), weights((5,), (3, 4))
    optimizer = muon([], ours)
    sgd = torch.optim.SGD(theirs, lr=LR, momentum=MOMENTUM, nesterov=True)
    for step in range(1, 13):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizer.step()
        for parameter in theirs:
            parameter.data.mul_(1 - LR * DECAY)
        sgd.step()
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other)


def test_the_rate_that_a_schedule_writes_is_the_one_used() -> None:
    parameters = weights((6, 10), (5,))
    before = [p.detach().clone() for p in parameters]
    optimizer = muon(parameters[:1], parameters[1:])
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    set_gradients(parameters, 1)
    optimizer.step()
    assert all(p.equal(b) for p, b in zip(parameters, before, strict=True))


def test_a_parameter_without_a_gradient_stays_where_it_is() -> None:
    parameters = weights((6, 10), (5,))
    optimizer = muon(parameters[:1], parameters[1:])
    optimizer.step()
    assert parameters[0].equal(weights((6, 10))[0])


def test_a_closure_computes_the_gradients_before_the_step() -> None:
    (matrix,) = weights((6, 10))
    optimizer = muon([matrix], [])

    def closure() -> float:
        loss = matrix.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) > matrix.square().sum().item()


def test_the_state_goes_through_a_file_and_training_goes_on_the_same() -> None:
    ours, theirs = weights((6, 10), (5,)), weights((6, 10), (5,))
    first, second = muon(ours[:1], ours[1:]), muon(theirs[:1], theirs[1:])
    for step in range(1, 4):
        set_gradients(ours, step)
        first.step()
    file = io.BytesIO()
    torch.save([ours, first.state_dict()], file)
    file.seek(0)
    saved, state = torch.load(file, weights_only=True)
    for mine, other in zip(theirs, saved, strict=True):
        mine.data.copy_(other)
    second.load_state_dict(state)
    for step in range(4, 7):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        first.step()
        second.step()
    assert all(mine.equal(other) for mine, other in zip(ours, theirs, strict=True))


def test_no_value_is_read_back_from_the_device() -> None:
    """Tensors on the meta device have no values: whoever waits for one there fails."""
    parameters = [torch.nn.Parameter(p.to("meta")) for p in weights((6, 10), (4, 3, 3, 3), (5,))]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    muon(parameters[:2], parameters[2:]).step()

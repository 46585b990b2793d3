"""SOAP: what makes it Adam in other axes, and what of a net it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faststyle.training.soap import Soap

RATE = 0.01


def follow(
    start: Tensor, gradient: Callable[[Tensor], Tensor], steps: int, make: Callable[..., torch.optim.Optimizer]
) -> Tensor:
    """Where an optimiser has come to after some steps from `start`."""
    weight = nn.Parameter(start.clone())
    optimizer = make([weight])
    for _ in range(steps):
        weight.grad = gradient(weight.detach())
        optimizer.step()
    return weight.detach()


def soap(parameters: list[nn.Parameter]) -> Soap:
    return Soap(parameters, RATE, every=3)


def adam(parameters: list[nn.Parameter]) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=RATE, betas=(0.95, 0.95))


@pytest.fixture
def quadratic() -> tuple[Tensor, Callable[[Tensor], float], Callable[[Tensor], Tensor]]:
    """A start, the objective |A (W - T) B|^2 / 2 whose axes are none of W's own, and its gradient, in float64."""
    random = torch.Generator().manual_seed(0)
    target, *turns = (torch.randn(6, 6, generator=random, dtype=torch.float64) for _ in range(3))
    scales = torch.logspace(0, -1, 6, dtype=torch.float64).diag()
    a, b = (turn @ scales @ turn.mT for turn in (torch.linalg.qr(each)[0] for each in turns))

    def objective(weight: Tensor) -> float:
        return float((a @ (weight - target) @ b).square().sum()) / 2

    return torch.zeros(1, 6, 6, dtype=torch.float64), objective, lambda weight: a @ a @ (weight - target) @ b @ b


def test_the_objective_falls(quadratic: Any) -> None:
    start, objective, gradient = quadratic
    assert objective(follow(start, gradient, 300, soap)) < objective(start) / 50


def test_a_turned_problem_is_solved_by_the_turned_steps(quadratic: Any) -> None:
    start, _, gradient = quadratic
    random = torch.Generator().manual_seed(1)
    u, v = (torch.linalg.qr(torch.randn(6, 6, generator=random, dtype=torch.float64))[0] for _ in range(2))
    plain = follow(start, gradient, 20, soap)
    turned = follow(u @ start @ v, lambda weight: u @ gradient(u.mT @ weight @ v.mT) @ v, 20, soap)
    torch.testing.assert_close(turned, u @ plain @ v, rtol=0, atol=1e-6)
    by_adam = follow(start, gradient, 20, adam)
    other = follow(u @ start @ v, lambda weight: u @ gradient(u.mT @ weight @ v.mT) @ v, 20, adam)
    assert (other - u @ by_adam @ v).abs().max() > 0.01, "which Adam's are not"


@pytest.mark.parametrize("shape", [(7,), (3, 7)])
def test_vectors_and_rows_of_norms_are_adams(shape: tuple[int, ...]) -> None:
    target = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found, by_adam = (follow(torch.zeros(shape), lambda weight: weight - target, 12, make) for make in (soap, adam))
    torch.testing.assert_close(found, by_adam)


def test_where_the_axes_are_the_weights_own_it_is_adam() -> None:
    slopes = torch.tensor([3.0, -2.0, 1.0, 0.5]).diag()[None]
    found = follow(torch.zeros(1, 4, 4), lambda weight: slopes, 13, soap)
    torch.testing.assert_close(found, follow(torch.zeros(1, 4, 4), lambda weight: slopes, 12, adam))


def test_the_first_gradient_of_a_matrix_only_gives_the_axes() -> None:
    """In which it is diagonal: a step of its own would have the signs of rounding errors everywhere else."""
    slope = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    assert not follow(torch.zeros(1, 5, 8), lambda weight: slope, 1, soap).any()
    again = follow(torch.zeros(1, 5, 8), lambda weight: slope, 2, soap)
    assert float((again * slope).sum()) < 0


def test_a_convolution_is_the_matrix_of_its_filters() -> None:
    target = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    as_filters = follow(torch.zeros(4, 2, 3, 3), lambda weight: weight - target, 12, soap)
    as_matrix = follow(torch.zeros(1, 4, 18), lambda weight: weight - target.view(1, 4, 18), 12, soap)
    assert torch.equal(as_filters.view(1, 4, 18), as_matrix)


def test_a_row_without_a_gradient_stays_to_the_bit() -> None:
    start = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    found = follow(start, lambda weight: (weight - 1) * mask, 12, soap)
    assert torch.equal(found[[0, 2]], start[[0, 2]])
    assert not torch.equal(found[1], start[1])


def test_a_restored_state_goes_on_to_the_bit() -> None:
    gradients = [torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(step)) for step in range(14)]
    whole, half = (nn.Parameter(torch.zeros(4, 2, 3, 3)) for _ in range(2))
    optimizer = soap([half])
    for step, gradient in enumerate(gradients):
        if step == 7:
            state = optimizer.state_dict()
            optimizer = Soap([half], 1.0)
            optimizer.load_state_dict(state)
        half.grad = gradient
        optimizer.step()
    again = iter(gradients)
    assert torch.equal(follow(whole.detach(), lambda weight: next(again), len(gradients), soap), half.detach())


def test_the_closures_result_is_handed_on() -> None:
    weight = nn.Parameter(torch.ones(3))

    def closure() -> Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss.detach()

    assert float(Soap([weight], RATE).step(closure)) == 3
    assert float(weight.detach().square().sum()) < 3

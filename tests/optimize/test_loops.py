"""By which loop: each brings a known objective down, keeps the pixels in range and tells what it has reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from faststyle.errors import OptimizeError
from faststyle.optimize import loops

Loop = Callable[[Tensor, Any, int], Iterator[dict[str, float]]]

LOOPS: dict[str, Loop] = {
    "lbfgs": loops.lbfgs,
    "adam": lambda image, gradient, steps: loops.adam(image, gradient, steps, 0.03),
    "ascent": lambda image, gradient, steps: loops.ascent(image, gradient, steps, 0.01),
}


def bowl(target: Tensor, stiffness: Tensor) -> Callable[[Tensor], tuple[dict[str, float], Tensor]]:
    """Loss and slope of 1/2 sum k (x - target)^2."""

    def gradient(image: Tensor) -> tuple[dict[str, float], Tensor]:
        off = image - target
        return {"total": float((0.5 * stiffness * off.square()).sum())}, stiffness * off

    return gradient


@pytest.fixture
def problem() -> tuple[Tensor, Callable[[Tensor], tuple[dict[str, float], Tensor]], Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, target, stiffness = (torch.rand(1, 3, 9, 11, generator=generator) for _ in range(3))
    return image, bowl(target, 0.1 + stiffness), target


@pytest.mark.parametrize("name", LOOPS)
def test_the_loss_falls_at_each_of_five_steps(problem, name):
    image, gradient, _ = problem
    before = float(gradient(image)[0]["total"])
    totals = [losses["total"] for losses in LOOPS[name](image, gradient, 5)]
    after = gradient(image)[0]["total"]
    assert [*totals, after] == sorted([*totals, after], reverse=True)
    assert after < 0.9 * before


def test_lbfgs_finds_the_bottom_of_a_bowl(problem):
    image, gradient, target = problem
    list(loops.lbfgs(image, gradient, 40))
    assert torch.allclose(image, target, atol=1e-3)


@pytest.mark.parametrize("name", ["lbfgs", "adam"])
def test_the_losses_are_those_of_the_picture_as_it_stands(problem, name):
    image, gradient, _ = problem
    start = image.clone()
    for number, losses in enumerate(LOOPS[name](image, gradient, 3)):
        assert losses["total"] == gradient(image)[0]["total"]
        assert torch.equal(image, start) == (number == 0)
    assert number == 3


@pytest.mark.parametrize("name", LOOPS)
def test_the_pixels_stay_in_range(name):
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    list(LOOPS[name](image, bowl(torch.full((1, 3, 8, 8), 3.0), torch.ones(1)), 30))
    assert float(image.max()) == 1.0 and float(image.min()) >= 0.0


def test_ascent_moves_a_pixel_by_the_step_size_on_average():
    image = torch.full((1, 3, 8, 8), 0.5)
    list(loops.ascent(image, bowl(torch.rand(1, 3, 8, 8), torch.ones(1)), 1, 0.02))
    assert float((image - 0.5).abs().mean()) == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loss_that_is_no_number_stops(name):
    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptimizeError, match="not a number"):
        list(LOOPS[name](image, lambda image: ({"total": float("nan")}, torch.ones_like(image)), 2))

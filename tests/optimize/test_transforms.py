"""Views of the picture: what goes through a shift, a tile or a mask comes back to where it belongs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from faststyle.optimize.transforms import blended, gradient_of, greyscale, jittered, smoothed, tiled


@dataclass
class Distance:
    """Mean squared distance from a grey value: every pixel for itself."""

    image: Tensor
    grey: float = 0.3

    @property
    def total(self) -> Tensor:
        return (self.image - self.grey).square().mean()

    def scalars(self) -> dict[str, float]:
        return {"total": float(self.total.detach())}


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 23, 31, generator=torch.Generator().manual_seed(0))


def expected(image: Tensor) -> Tensor:
    return 2 * (image - 0.3) / image.numel()


def test_the_gradient_is_the_derivative(image):
    losses, slope = gradient_of(Distance)(image)
    assert torch.allclose(slope, expected(image))
    assert losses["total"] == pytest.approx(float((image - 0.3).square().mean()))
    assert not image.requires_grad


def test_grey_sums_over_the_channels(image):
    grey = image[:, :1]
    losses, slope = greyscale(gradient_of(Distance))(grey)
    assert torch.allclose(slope, 3 * 2 * (grey - 0.3) / (3 * grey.numel()))
    assert losses["total"] == pytest.approx(float((grey - 0.3).square().mean()))


def test_a_mask_shows_the_photo_where_it_is_black(image):
    photo = torch.full_like(image, 0.7)
    mask = torch.zeros(1, 1, 23, 31)
    mask[..., :10], mask[..., 10:20] = 1.0, 0.5
    seen = []

    def gradient(picture: Tensor) -> tuple[dict[str, float], Tensor]:
        seen.append(picture)
        return gradient_of(Distance)(picture)

    _, slope = blended(gradient, photo, mask)(image)
    mixed = image * mask + photo * (1 - mask)
    assert torch.allclose(seen[0], mixed)
    assert torch.allclose(slope, expected(mixed) * mask)
    assert torch.equal(slope[..., 20:], torch.zeros(1, 3, 23, 11))


def test_a_shift_is_undone(image):
    seen = []

    def gradient(picture: Tensor) -> tuple[dict[str, float], Tensor]:
        seen.append(picture)
        return gradient_of(Distance)(picture)

    shifted = jittered(gradient, 5, torch.Generator().manual_seed(1))
    for _ in range(6):
        losses, slope = shifted(image)
        assert torch.allclose(slope, expected(image))
        assert losses["total"] == pytest.approx(float((image - 0.3).square().mean()))
    reach = range(-5, 6)
    shifts = [
        next((down, right) for down in reach for right in reach if torch.equal(image.roll((down, right), (2, 3)), view))
        for view in seen
    ]
    assert len(set(shifts)) > 3


def test_equal_seeds_shift_alike(image):
    def views(seed: int) -> list[Tensor]:
        found: list[Tensor] = []

        def gradient(picture: Tensor) -> tuple[dict[str, float], Tensor]:
            found.append(picture)
            return {}, picture

        shifted = jittered(gradient, 5, torch.Generator().manual_seed(seed))
        for _ in range(4):
            shifted(image)
        return found

    assert all(map(torch.equal, views(7), views(7)))
    assert not all(map(torch.equal, views(7), views(8)))


@pytest.mark.parametrize("tile", [7, 8, 16, 64])
def test_tiles_add_up_to_the_whole(image, tile):
    sides: list[int] = []

    def gradient(picture: Tensor) -> tuple[dict[str, float], Tensor]:
        sides.extend(picture.shape[2:])
        return gradient_of(Distance)(picture)

    losses, slope = tiled(gradient, tile)(image)
    assert torch.allclose(slope, expected(image))
    assert losses["total"] == pytest.approx(float((image - 0.3).square().mean()))
    assert max(sides) <= tile
    assert len(sides) // 2 == math.ceil(23 / tile) * math.ceil(31 / tile)


def test_smoothing_is_a_gaussian_that_sums_to_one():
    slope = torch.zeros(1, 3, 21, 21)
    slope[0, 1, 10, 10] = 2.0
    _, blurred = smoothed(lambda image: ({}, image), 1.5)(slope)
    assert blurred.sum() == pytest.approx(2.0)
    assert blurred[0, 0].abs().sum() == 0
    weights = [math.exp(-0.5 * (offset / 1.5) ** 2) for offset in range(-5, 6)]
    line = torch.tensor(weights) / sum(weights)
    assert torch.allclose(blurred[0, 1, 5:16, 5:16], 2 * line[:, None] * line[None], atol=1e-6)


def test_smoothing_leaves_a_constant_up_to_the_border():
    slope = torch.full((1, 3, 9, 12), 0.25)
    _, blurred = smoothed(lambda image: ({}, image), 2.0)(slope)
    assert torch.allclose(blurred, slope)

"""Losses on pixels, recomputed from first principles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from faststyle.losses import (
    chequer_loss,
    color_loss,
    color_moments,
    lattice_loss,
    light_loss,
    seam_loss,
    shift_loss,
    total_variation,
)


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_shift_loss_is_the_mean_square_of_what_does_not_move_along():
    image = rand(2, 3, 70, 90)
    assert shift_loss(image, image[:, :, 3:, 5:], 3, 5) == 0
    assert shift_loss(image, image[:, :, 3:, 5:] + 0.2, 3, 5).item() == pytest.approx(0.04)
    moved = image[:, :, 3:, 5:].clone()
    moved[0, 1, -1, -1] += 1
    assert shift_loss(image, moved, 3, 5).item() == pytest.approx(1 / (2 * 3 * 67 * 85), rel=1e-4), "borders count"


def test_light_loss_is_what_no_multiple_of_the_photos_light_explains():
    image, photo = rand(2, 3, 70, 90, seed=1), rand(2, 3, 70, 90, seed=2)
    image[:, :, 20:60, 10:50] *= 0.3
    photo[:, :, :40] *= 0.5
    expected = 0.0
    for one, other in zip(image.numpy().astype(float), photo.numpy().astype(float), strict=True):
        wide = []
        for picture in (one, other):
            luma = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
            squares = np.array(
                [[luma[y : y + 32, x : x + 32].mean() for x in range(0, 59, 8)] for y in range(0, 39, 8)]
            )
            wide.append(squares - squares.mean())
        multiple = max(0.0, (wide[0] * wide[1]).mean() / ((wide[1] ** 2).mean() + 1e-4))
        luma = 0.299 * one[0] + 0.587 * one[1] + 0.114 * one[2]
        expected += ((wide[0] - multiple * wide[1]) ** 2).mean() / (luma.var() + 1e-3) / 2
    assert light_loss(image, photo).item() == pytest.approx(expected, rel=1e-3)


def test_strokes_and_contrast_are_free_but_neither_patches_nor_a_negative():
    photo = torch.full((1, 3, 128, 128), 0.3)
    photo[..., 64:] = 0.8
    strokes = photo + 0.4 * (rand(1, 1, 32, 32, seed=3).repeat_interleave(4, 2).repeat_interleave(4, 3) - 0.5)
    patches = photo.clone()
    patches[..., 48:80, 48:80] = 0
    assert light_loss(photo, photo) < 1e-3
    assert light_loss(0.4 * photo + 0.5, photo) < 1e-3, "of another contrast"
    assert light_loss(strokes, photo) < 0.02 < 0.05 < light_loss(patches, photo)
    assert light_loss(1 - photo, photo) > 0.5


def test_light_of_what_is_flat_or_small_is_nothing_and_has_a_slope():
    for shape in ((1, 3, 40, 40), (1, 3, 2, 50), (1, 3, 1, 1)):
        flat = torch.zeros(shape)
        assert light_loss(flat, flat) == 0
        painted = rand(*shape).requires_grad_()
        loss = light_loss(painted, flat)
        (slope,) = torch.autograd.grad(loss, painted)
        assert 0 <= loss <= 1 and slope.isfinite().all()


def test_total_variation_of_a_ramp():
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 3, 4, 4) / 10
    assert total_variation(ramp).item() == pytest.approx(0.1)
    assert total_variation(torch.ones(1, 3, 4, 4)) == 0


def excess(picture: np.ndarray) -> float:
    """By how much the phases' means vary more with cells of 8 pixels than by chance: H x W x C, at most 256 a side."""

    def variance(side: int) -> tuple[float, int]:
        rows, columns = (length // side for length in picture.shape[:2])
        phases = picture[: rows * side, : columns * side].reshape(rows, side, columns, side, -1).mean((0, 2))
        return float(phases.var((0, 1)).mean()), rows * columns

    (smaller, many), (found, cells), (larger, few) = (variance(side) for side in (7, 8, 9))
    return max(0.0, found - (7 * many * smaller + 9 * few * larger) / (16 * cells))


def test_lattice_loss_is_the_excess_of_the_variance_over_that_of_other_cells():
    image = 0.3 * rand(2, 3, 130, 150)
    image[0, :, :128, :144] += 0.1 * torch.kron(torch.ones(16, 18), torch.eye(8))
    pictures = [picture.permute(1, 2, 0).double().numpy() for picture in image]
    expected = [excess(picture) for picture in pictures]
    assert expected[0] > 5e-4 > 50 * expected[1]
    assert lattice_loss(image).item() == pytest.approx(np.mean(expected), rel=1e-3)


def test_lattice_loss_sees_a_weave_and_nothing_else():
    weave = torch.full((1, 3, 128, 128), 0.5)
    weave[:, :, ::8, ::8] += 0.1
    # One phase of 64 stands out by 0.1: variance 0.1^2 x 1/64 x 63/64.
    assert lattice_loss(weave).item() == pytest.approx(0.01 * 63 / 4096, rel=0.05)
    weave[:, :, ::4, ::4] = 0.6
    # One phase of sixteen, which is four of 64.
    assert lattice_loss(weave).item() == pytest.approx(0.01 * 15 / 256, rel=0.05)
    assert lattice_loss(torch.full((1, 3, 64, 64), 0.5)) == pytest.approx(0, abs=1e-12)
    smooth = torch.linspace(0, 1, 128) * torch.linspace(0.5, 1, 128)[:, None]
    assert lattice_loss(smooth.expand(1, 3, 128, 128)) < 5e-5, "smooth shading"
    assert lattice_loss(torch.rand(1, 3, 17, 64)) == 0, "less than two cells of 9 pixels"


def lines(down: int, across: int, *, teeth: bool) -> torch.Tensor:
    """Pictures with three lines in a direction at any place, or such whose every other four pixels are missing."""
    row, column = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    there = ((down * row + across * column) % 8 > 3) | (not teeth)
    pictures = torch.full((24, 1, 128, 128), 0.5)
    for place, picture in enumerate(pictures):
        for line in range(3):
            picture[0] += 0.1 * (((across * row - down * column + 37 * place + 41 * line) % 128 < 3) & there)
    return pictures


def test_chance_is_taken_away_whole():
    """With a plain mean of the variances with 7 and 9 pixels a weave would have room beneath the grain."""
    grain = rand(20, 3, 256, 256)
    weave = 0.02 * torch.kron(torch.ones(32, 32), torch.eye(8))
    assert lattice_loss(grain).item() < 1e-5
    assert lattice_loss(grain + weave).item() == pytest.approx(0.02**2 * 7 / 64, rel=0.2)


def test_a_line_costs_the_same_in_all_directions_and_less_than_a_row_of_dots():
    """Else a network lays all its strokes where they cost least: once, on diagonals."""
    directions = [(0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, -1)]
    plain = [lattice_loss(lines(*each, teeth=False)).item() for each in directions]
    assert max(plain) < 2 * min(plain) < 6e-5
    for each in directions:
        assert seam_loss(lines(*each, teeth=True)) > 2.5 * seam_loss(lines(*each, teeth=False))


def test_seam_loss_sees_the_borders_of_cells_and_nothing_else():
    columns = torch.arange(65) // 8 % 2 * 0.1
    cells = columns.expand(2, 3, 41, 65)
    # Differences of 0.1 at every border, across and along both diagonals, and half of that on either side of it from a
    # pixel's four neighbours; none down.
    borders = np.tile(0.1 * (np.arange(64) % 8 == 7), (40, 1))[..., None]
    beside = np.tile(0.05 * np.isin(np.arange(63) % 8, (6, 7)), (39, 1))[..., None]
    seams = excess(np.concatenate([borders, borders[:1]])) + 2 * excess(borders) + excess(beside)
    assert seam_loss(cells).item() == pytest.approx(seams, rel=1e-4)
    assert seam_loss(cells.transpose(2, 3)).item() == pytest.approx(seams, rel=1e-4)
    ramp = torch.linspace(0, 1, 65).expand(1, 3, 41, 65)
    assert seam_loss(ramp) == pytest.approx(0, abs=1e-9)
    odd = (torch.arange(129) // 7 % 2 * 0.1).expand(1, 3, 129, 129)  # its borders fall on every phase
    assert seam_loss(odd) < seams / 20
    assert seam_loss(torch.rand(1, 3, 8, 7)) == 0


@pytest.mark.parametrize(
    "cell",
    [
        [[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[1.0, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1], [-1, 0, 0, 1]],
        [[1.0, 0, -1, 0], [0, -1, 0, 1], [-1, 0, 1, 0], [0, 1, 0, -1]],
    ],
    ids=["dot", "zip", "knit"],
)
def test_seam_loss_sees_screens_whose_colours_agree(cell):
    """A pattern in the same pixels of every cell, dark here and light there, against the same laid anywhere."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (32, 32), generator=generator) * 2.0 - 1
    screen = torch.kron(signs, 0.1 * torch.tensor(cell))
    image = 0.5 + screen.expand(1, 3, 128, 128)
    free = torch.stack([row.roll(int(shift)) for row, shift in zip(screen, torch.arange(128) * 37 % 101, strict=True)])
    free = torch.stack([row.roll(int(shift)) for row, shift in zip(free.T, torch.arange(128) * 53 % 97, strict=True)])
    assert lattice_loss(image) < 2e-4, "each pixel's mean is grey"
    assert seam_loss(image) > 5 * seam_loss(0.5 + free.expand(1, 3, 128, 128))


@pytest.mark.parametrize("corner", [(slice(None, 64), slice(None, 64)), (slice(192, None), slice(192, None))])
def test_seam_loss_looks_at_the_whole_of_a_crop(corner):
    dots = torch.zeros(256, 256)
    dots[::4, ::4] = 1
    image = torch.full((1, 3, 256, 256), 0.5)
    image[..., corner[0], corner[1]] += 0.2 * dots[corner]
    everywhere = seam_loss(0.5 + 0.2 * dots.expand(1, 3, 256, 256))
    assert seam_loss(image) > everywhere / 350, "a sixteenth of the window, squared"


def test_chequer_loss_sees_chequerboards_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    chequers = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    # A chequerboard of +- 0.1 has a diagonal detail of 0.2 everywhere.
    assert chequer_loss(0.5 + 0.1 * chequers.expand(1, 3, 64, 64)).item() == pytest.approx(0.04, rel=1e-4)
    # In one half of the picture the other way round: squares astride the border see less of it.
    halves = 0.1 * chequers * torch.where(torch.arange(64) < 32, 1.0, -1.0)
    assert 0.035 < chequer_loss(halves.expand(1, 3, 64, 64)).item() < 0.04
    grain = 0.1 * (torch.randint(0, 2, (1, 3, 64, 64), generator=generator) * 2.0 - 1)
    assert chequer_loss(grain).item() < 0.04 / 20
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    assert chequer_loss(ramp * ramp.transpose(2, 3)) < 1e-6
    assert chequer_loss(torch.rand(1, 3, 1, 5)) == 0


def test_color_moments_by_hand():
    image = rand(2, 3, 17, 24)
    moments = color_moments(image)
    assert moments.shape == (2, 5, 3, 4)

    def means(side: int, stride: int, inset: int) -> torch.Tensor:
        within = image[:, :, inset : 17 - inset, inset : 24 - inset]
        return within.unfold(2, side, stride).unfold(3, side, stride).mean((4, 5))

    # Squares of 1, 3, 5, 9 and 17 pixels around the same centres; those of 9 lie 3 pixels apart.
    octaves = [
        means(1, 1, 1) - means(3, 1, 0),
        means(3, 1, 1) - means(5, 1, 0),
        means(5, 1, 2) - means(9, 1, 0),
        means(9, 3, 4) - means(17, 3, 0),
    ]
    for found, colors in zip(moments.unbind(1), (image, *octaves), strict=True):
        for n in range(2):
            pixels = colors[n].flatten(1).numpy()
            assert found[n, :, :3].numpy() == pytest.approx(np.cov(pixels, bias=True), abs=1e-5)
            assert found[n, :, 3].numpy() == pytest.approx(pixels.mean(1), abs=1e-5)


@pytest.mark.parametrize(("side", "count"), [(1, 1), (2, 1), (3, 2), (16, 4), (64, 6), (65, 7), (200, 7)])
def test_color_moments_hold_the_octaves_that_fit(side, count):
    assert color_moments(rand(1, 3, side, 200)).shape == (1, count, 3, 4)


def test_color_loss_sees_light_and_contrast():
    picture = rand(1, 3, 32, 32)
    target = color_moments(picture)
    assert color_loss(target, target) == 0
    # A flat picture of the same mean: covariance 0, which is as far as it can be.
    flat = picture.mean((2, 3), keepdim=True).expand_as(picture)
    assert color_loss(color_moments(flat), target).item() == pytest.approx(1, rel=1e-4)
    # As much contrast, but brighter by one standard deviation of the colours.
    deviation = target[0, 0, :, :3].diagonal().sum().sqrt() / 3**0.5
    brighter = target.clone()
    brighter[:, 0, :, 3] += deviation
    assert color_loss(brighter, target).item() == pytest.approx(0.25, rel=1e-4)
    assert color_loss(color_moments(torch.zeros(1, 3, 4, 5)), color_moments(torch.zeros(1, 3, 8, 8))) == 0


def test_color_loss_compares_the_octaves_that_both_pictures_have():
    small, large = color_moments(rand(2, 3, 20, 20)), color_moments(rand(1, 3, 70, 70, seed=1))
    assert (small.shape[1], large.shape[1]) == (5, 7)
    assert color_loss(small, large).item() == pytest.approx(color_loss(small, large[:, :5]).item())
    first = color_loss(large, small[:1]).item()
    assert first == pytest.approx(color_loss(large[:, :5], small[:1]).item())


def test_color_loss_sees_grain_in_the_place_of_large_shade():
    grain = rand(1, 3, 256, 256)
    shade = F.interpolate(grain[:, :, :16, :16], size=256)
    apart = color_loss(color_moments(grain), color_moments(shade))
    # The pixels' own moments are nearly the same, those of most octaves are not.
    pixels = color_loss(color_moments(grain)[:, :1], color_moments(shade)[:, :1])
    assert pixels < 0.02
    assert apart > 0.3

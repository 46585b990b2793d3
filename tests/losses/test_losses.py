"""Losses, recomputed from first principles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from faststyle.losses import (
    PerceptualLoss,
    chequer_loss,
    color_loss,
    color_moments,
    content_loss,
    evenness_loss,
    gram_matrix,
    lattice_loss,
    light_loss,
    mean_loss,
    seam_loss,
    style_loss,
    texture_energies,
    texture_target,
    textures_between,
    total_variation,
)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_gram_matrix_is_the_mean_product_of_channels(features):
    gram = gram_matrix(features)
    for n in range(2):
        for i in range(3):
            for j in range(3):
                product = sum(features[n, i, y, x] * features[n, j, y, x] for y in range(4) for x in range(5))
                assert gram[n, i, j].item() == pytest.approx(product.item() / (3 * 4 * 5), rel=1e-5)


def test_gram_matrix_of_half_precision_does_not_overflow():
    assert torch.isfinite(gram_matrix(torch.full((1, 4, 64, 64), 200.0, dtype=torch.float16))).all()


def test_gram_matrix_does_not_depend_on_the_size_of_a_repeated_picture(features):
    assert torch.allclose(gram_matrix(features), gram_matrix(features.repeat(1, 1, 2, 3)))


def test_content_loss_is_the_mean_square_against_the_targets(features):
    target = features.flip(0)
    expected = sum(((features[n] - target[n]) ** 2).mean() / (target[n] ** 2).mean() for n in range(2)) / 2
    assert content_loss(features, target).item() == pytest.approx(expected.item(), rel=1e-5)
    assert content_loss(target, target) == 0
    assert content_loss(torch.zeros_like(target), target).item() == pytest.approx(1)


@pytest.mark.parametrize(("stride", "side"), [(2, 16), (4, 8), (16, 2)])
def test_texture_energies_are_the_variances_within_windows(stride, side):
    features = rand(2, 3, 30, 41)
    found = texture_energies(features, stride)
    for n in range(2):
        energies = []
        for y in range(0, 30 - side + 1, side // 2):
            for x in range(0, 41 - side + 1, side // 2):
                window = features[n, :, y : y + side, x : x + side].double().numpy()
                energies.append(window.var((1, 2)).mean())
        expected = np.sort(np.log(np.array(energies) + 1e-3 * np.mean(energies)))
        assert found[n].numpy() == pytest.approx(expected, abs=1e-3)


def test_texture_of_what_is_flat_or_small_has_a_slope_nevertheless():
    for features in (torch.ones(1, 3, 16, 16), torch.zeros(1, 3, 1, 2), rand(1, 3, 5, 40)):
        features.requires_grad_()
        loss = evenness_loss(texture_energies(features, 4), texture_target(rand(1, 3, 40, 30, seed=2), 4))
        (slope,) = torch.autograd.grad(loss, features)
        assert loss.isfinite() and slope.isfinite().all()


def test_evenness_is_the_distance_of_two_distributions():
    features = rand(1, 4, 40, 40) * torch.linspace(0.2, 2, 40)
    energies = texture_energies(features, 4)
    assert evenness_loss(energies, energies) == 0
    assert evenness_loss(energies, energies + 0.5).item() == pytest.approx(0.5)
    assert evenness_loss(texture_energies(features.flip(2, 3), 4), energies) < 1e-5, "wherever it is"
    # A ramp of other length is the same distribution.
    assert evenness_loss(torch.linspace(0, 1, 9)[None], torch.linspace(0, 1, 100)[None]) == pytest.approx(0, abs=1e-6)


def test_patches_and_bare_parts_are_uneven():
    painting = rand(1, 4, 48, 48, seed=1)
    target = texture_target(painting, 4)
    everywhere, patches = rand(1, 4, 48, 48, seed=2), rand(1, 4, 48, 48, seed=2) * 0.2
    patches[..., :24, :24] *= 10  # as much in all: 0.75 x 0.04 + 0.25 x 4 = 1.03
    assert evenness_loss(texture_energies(everywhere, 4), target) < 0.2
    assert evenness_loss(texture_energies(patches, 4), target) > 1


def test_a_target_has_less_spread_than_the_painting():
    painting = rand(2, 4, 60, 60) * torch.linspace(0.1, 3, 60)
    energies, target = texture_energies(painting, 4), texture_target(painting, 4)
    assert target.shape == (2, 64) and (target.diff(dim=1) >= 0).all()
    assert (target[:, -1] - target[:, 0]).numpy() == pytest.approx(0.4 * np.ptp(energies.numpy(), 1), rel=1e-4)
    middle = energies.median(1).values
    assert target.median(1).values.numpy() == pytest.approx(middle.numpy(), abs=0.05)


def test_textures_between_a_photo_and_a_painting():
    photo, target = texture_energies(rand(1, 3, 30, 30), 4), texture_target(rand(1, 3, 50, 40, seed=2) * 3, 4)
    assert textures_between(photo, target, 0.0).equal(photo)
    assert evenness_loss(textures_between(photo, target, 1.0), target) == pytest.approx(0, abs=1e-6)
    half = evenness_loss(photo, textures_between(photo, target, 0.5))
    assert half.item() == pytest.approx(evenness_loss(photo, target).item() / 2, rel=1e-4)


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


def test_style_loss_is_balanced():
    gram, target = rand(2, 5, 5, seed=1), rand(1, 5, 5, seed=2)
    expected = sum(((g - target[0]) ** 2).sum() / ((g**2).sum() + (target[0] ** 2).sum()) for g in gram) / 2
    assert style_loss(gram, target).item() == pytest.approx(expected.item(), rel=1e-5)
    assert style_loss(target, target) == 0
    assert style_loss(gram, target).item() == pytest.approx(style_loss(gram * 1000, target * 1000).item(), rel=1e-4)
    assert 0 <= style_loss(torch.zeros_like(target), target) <= 1


def test_style_loss_has_no_gradient_through_its_denominator():
    gram, target = rand(1, 4, 4).requires_grad_(), rand(1, 4, 4, seed=2)
    style_loss(gram, target).backward()
    size = (target**2).sum() + (gram.detach() ** 2).sum()
    assert gram.grad is not None
    assert torch.allclose(gram.grad, 2 * (gram.detach() - target) / size)


def test_total_variation_of_a_ramp():
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 3, 4, 4) / 10
    assert total_variation(ramp).item() == pytest.approx(0.1)
    assert total_variation(torch.ones(1, 3, 4, 4)) == 0


def test_lattice_loss_sees_a_weave_and_nothing_else():
    smooth = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(1, 3, 64, 64)
    weave = torch.full((1, 3, 64, 64), 0.5)
    weave[:, :, ::8, ::8] += 0.1
    # One phase of 64 stands out by 0.1: variance 0.1^2 x 1/64 x 63/64.
    assert lattice_loss(weave).item() == pytest.approx(0.01 * 63 / 4096, rel=1e-4)
    assert lattice_loss(weave[:, :, :40, :56]).item() == pytest.approx(0.01 * 63 / 4096, rel=1e-4)
    weave[:, :, ::4, ::4] = 0.6
    # One phase of sixteen, which is four of 64.
    assert lattice_loss(weave).item() == pytest.approx(0.01 * 15 / 256, rel=1e-4)
    assert lattice_loss(torch.full((1, 3, 64, 64), 0.5)) == pytest.approx(0, abs=1e-12)
    # A ramp's phases differ by less than 8 pixels' rise.
    assert lattice_loss(smooth).item() < (8 / 64) ** 2


def test_seam_loss_sees_the_borders_of_cells_and_nothing_else():
    columns = torch.arange(65) // 8 % 2 * 0.1
    cells = columns.expand(2, 3, 41, 65)
    # One of 8 phases has a difference of 0.1 across and along both diagonals, two have half of that from their four
    # neighbours; none down.
    seams = (3 * 0.1**2 * 7 + 0.05**2 * 12) / 64
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
    assert seam_loss(image) > everywhere / 300, "a quarter of one window in nine, squared"


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


def test_perceptual_loss_adds_its_weighted_terms():
    image = rand(2, 3, 32, 32)
    features = {"a": rand(2, 4, 8, 8, seed=3), "b": rand(2, 6, 4, 4, seed=4)}
    grams = {"a": gram_matrix(rand(1, 4, 9, 9, seed=5)), "b": gram_matrix(rand(1, 6, 5, 5, seed=6))}
    content = rand(2, 6, 4, 4, seed=7)
    criterion = PerceptualLoss(grams, "b", style_weight=10.0, lattice_weight=300.0, tv_weight=2.0)
    terms = criterion(image, features, content)
    style = (
        style_loss(gram_matrix(features["a"]), grams["a"]) + style_loss(gram_matrix(features["b"]), grams["b"])
    ) / 2
    lattice = lattice_loss(image) + 0.4 * (seam_loss(image) + chequer_loss(image))
    total = content_loss(features["b"], content) + 10 * style + 300 * lattice + 2 * total_variation(image)
    assert terms.total.item() == pytest.approx(total.item(), rel=1e-5)
    names = {"total", "content", "style", "evenness", "means", "colors", "light", "lattice", "total_variation"}
    assert set(terms.scalars()) == names | {"style_a", "style_b"}
    assert terms.evenness == terms.means == terms.colors == terms.light == 0


def test_perceptual_loss_of_a_network_has_evenness_means_colors_and_light():
    image = rand(2, 3, 32, 32)
    features = {"a": rand(2, 4, 8, 8, seed=3), "b": rand(2, 6, 4, 4, seed=4)}
    content = rand(2, 4, 8, 8, seed=5)
    painting = {"a": rand(1, 4, 9, 9, seed=7), "b": rand(1, 6, 5, 5, seed=8)}
    grams = {layer: gram_matrix(each) for layer, each in painting.items()}
    means = {layer: each.mean((2, 3)) for layer, each in painting.items()}
    textures = {"b": texture_target(painting["b"], 8)}
    colors = color_moments(rand(1, 3, 40, 48, seed=9))
    shares = {"a": 1.0, "b": 3.0}
    criterion = PerceptualLoss(grams, "a", 10.0, shares, means, 0.5, textures, 0.2, colors, 0.3, 5.0)
    photo = rand(2, 3, 32, 32, seed=10)
    terms = criterion(image, features, content, photo)
    plain = content_loss(features["a"], content)
    uneven = evenness_loss(texture_energies(features["b"], 8), textures["b"])
    a, b = (terms.style_layers[layer] + 0.5 * mean_loss(features[layer], means[layer]) for layer in "ab")
    # What is reported is the plain mean, whatever the layers weigh.
    assert terms.style.item() == pytest.approx(sum(map(float, terms.style_layers.values())) / 2)
    colored = color_loss(color_moments(image), colors)
    total = plain + 10 * ((a + 3 * b) / 4 + 0.2 * uneven + 0.3 * colored) + 5 * light_loss(image, photo)
    assert terms.total.item() == pytest.approx(total.item(), rel=1e-5)
    assert (terms.content.item(), terms.evenness.item()) == pytest.approx((plain.item(), uneven.item()))


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


def test_mean_loss_by_hand():
    features = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])  # means 2 and 1
    assert mean_loss(features, torch.tensor([[2.0, 1.0]])) == 0
    assert mean_loss(features, torch.tensor([[4.0, 1.0]])).item() == pytest.approx(4 / (5 + 17))
    assert mean_loss(features, torch.zeros(1, 2)) == 1


def test_means_tell_glaring_patches_from_what_lies_everywhere():
    everywhere = rand(1, 4, 8, 8)
    patches = torch.zeros_like(everywhere)
    patches[..., :2, :] = 2 * everywhere[..., :2, :]  # a quarter of the picture, twice as strong
    gram = gram_matrix(everywhere)
    assert style_loss(gram_matrix(patches), gram) < 0.01
    assert mean_loss(patches, everywhere.mean((2, 3))) > 0.1


@pytest.mark.parametrize(
    "loss",
    [
        content_loss,
        lambda x, t: style_loss(gram_matrix(x), gram_matrix(t)),
        lambda x, t: mean_loss(x, t.mean((2, 3))),
    ],
)
def test_gradients_point_downhill(loss):
    x, target = rand(1, 3, 6, 6).requires_grad_(), rand(1, 3, 6, 6, seed=2)
    before = loss(x, target)
    before.backward()
    assert x.grad is not None
    with torch.no_grad():
        assert loss(x - 1e-2 * x.grad / x.grad.norm(), target) < before


def test_gram_matrix_of_a_region_is_that_of_its_pixels_alone():
    features = rand(1, 5, 6, 8)
    left = torch.zeros(1, 1, 6, 8)
    left[..., :4] = 1
    masks = torch.cat([left, 1 - left])
    found = gram_matrix(features, masks)
    expected = [gram_matrix(features[..., :4])[0], gram_matrix(features[..., 4:])[0]]
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)
    assert torch.allclose(gram_matrix(features, torch.ones(1, 1, 12, 16)), gram_matrix(features), atol=1e-6)


def test_a_region_counts_by_its_share_of_the_picture():
    image, features = rand(1, 3, 32, 32), {"a": rand(1, 4, 8, 8, seed=3)}
    masks = torch.zeros(2, 1, 32, 32)
    masks[0, :, :8], masks[1, :, 8:] = 1, 1
    grams = gram_matrix(rand(2, 4, 9, 9, seed=5))
    terms = PerceptualLoss({"a": grams}, "a", 1.0, masks=masks)(image, features, features["a"])
    each = [style_loss(gram_matrix(features["a"], masks[i : i + 1]), grams[i : i + 1]) for i in (0, 1)]
    assert terms.style.item() == pytest.approx((0.25 * each[0] + 0.75 * each[1]).item(), rel=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_slope_of_a_gram_matrix_is_autograds(layout, kind):
    torch.manual_seed(0)
    features = torch.rand(2, 3, 5, 4).to(kind).to(memory_format=layout).requires_grad_()
    towards = torch.rand(2, 3, 3)
    (ours,) = torch.autograd.grad((gram_matrix(features) * towards).sum(), features)
    flat = features.float().flatten(2)
    (theirs,) = torch.autograd.grad((flat @ flat.transpose(1, 2) / 60 * towards).sum(), features)
    assert ours.dtype == kind and ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(ours.float(), theirs.float(), rtol=1e-5 if kind == torch.float32 else 1e-2)
